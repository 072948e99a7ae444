"""The servers' clock: delays are counted by it, even if the local clock is wrong."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from brrr_nats.queue import clocks
from brrr_nats.queue.clocks import ServerClock, read_time

SERVERS = 1_800_000_000.0


class FakeClient:
    """Servers whose clock runs with the loop's."""

    def __init__(self):
        self.asked = 0
        self.loop = asyncio.get_running_loop()
        self.begun = self.loop.time()

    @property
    def now(self):
        return SERVERS + self.loop.time() - self.begun

    async def call_api(self, subject):
        self.asked += 1
        whole, fraction = divmod(self.now, 1)
        day = clocks.EPOCH + timedelta(seconds=whole)
        return {"ts": f"{day:%Y-%m-%dT%H:%M:%S}.{fraction * 1e9:09.0f}Z"}


@pytest.mark.parametrize("jump", [-7200.0, 0.0, 3600.0])
async def test_delay_is_correct_after_the_local_clock_was_set(monkeypatch, jump):
    client: Any = FakeClient()
    servers = ServerClock(client, "brrr")
    ours = 1000.0 + client.begun
    monkeypatch.setattr(clocks, "time", lambda: ours + client.loop.time())
    assert read_time(await servers.after(60)) == pytest.approx(client.now + 60, abs=0.5)
    ours += jump
    assert read_time(await servers.after(60)) == pytest.approx(client.now + 60, abs=0.5)
    assert client.asked == (2 if jump else 1)
