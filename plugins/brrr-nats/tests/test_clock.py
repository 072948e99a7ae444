"""The servers' clock: delays are counted by it, whatever is done to ours."""

import asyncio

import pytest

from brrr_nats.queue import clock
from brrr_nats.queue.clock import ServerClock, read_time

SERVERS = 1_800_000_000.0


class FakeLink:
    """Servers whose clock goes with the loop's."""

    def __init__(self):
        self.asked = 0
        self.loop = asyncio.get_running_loop()
        self.begun = self.loop.time()

    @property
    def now(self):
        return SERVERS + self.loop.time() - self.begun

    async def ask(self, subject):
        self.asked += 1
        whole, fraction = divmod(self.now, 1)
        day = clock.EPOCH + clock.timedelta(seconds=whole)
        return {"ts": f"{day:%Y-%m-%dT%H:%M:%S}.{fraction * 1e9:09.0f}Z"}


@pytest.mark.parametrize("jump", [-7200.0, 0.0, 3600.0])
async def test_delays_are_right_whatever_our_clock_is_set_to(monkeypatch, jump):
    link = FakeLink()
    servers = ServerClock(link, "brrr")
    ours = 1000.0 + link.begun
    monkeypatch.setattr(clock, "time", lambda: ours + link.loop.time())
    assert read_time(await servers.after(60)) == pytest.approx(link.now + 60, abs=0.5)
    ours += jump
    assert read_time(await servers.after(60)) == pytest.approx(link.now + 60, abs=0.5)
    assert link.asked == (2 if jump else 1)
