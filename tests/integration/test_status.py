"""A client reads the status of a call, and finds its dead letter without knowing its topic."""

import asyncio
from dataclasses import replace

import pytest

import brrr_core as brrr
from brrr_core.errors import BuriedError, ResultTimeoutError
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, serving

ONCE = replace(QUICK, max_attempts=1)


class Switch:
    """Decides how the handlers behave."""

    def __init__(self) -> None:
        self.mended = False
        self.started, self.gate = asyncio.Event(), asyncio.Event()


def handlers(switch: Switch) -> dict[str, brrr.Task]:
    @brrr.handler_no_arg
    async def leaf() -> int:
        if not switch.mended:
            raise ValueError("broken")
        switch.started.set()
        await switch.gate.wait()
        return 1

    @brrr.handler_no_arg
    async def refuses() -> int:
        raise brrr.TerminalError("no")

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return await app.call(leaf)()

    return {"leaf": leaf, "refuses": refuses, "top": top}


async def test_status_follows_a_call_from_its_schedule_to_its_value(url: str) -> None:
    switch = Switch()
    async with serving(url, handlers(switch), policy=ONCE) as fleet, brrr.connect(url) as connection:
        client = brrr.AppConsumer(codec="json", connection=connection)
        assert (await client.status("top")()).state == "unknown"
        scheduled = await fleet.app.schedule("top", topic=TOPIC)()
        await fleet.dead(1)
        await fleet.idle()
        status = await client.status("top")()
        assert (status.state, status.topic, status.call_hash) == ("dead-lettered", TOPIC, scheduled.call_hash)
        assert "ValueError: broken" in (status.reason or "")
        assert status.dead_call == (await client.status("leaf")()).call_hash
        switch.mended = True
        again = await client.schedule("top", topic=TOPIC)()
        assert again.was_dead_lettered
        async with asyncio.timeout(BOUND):
            await switch.started.wait()
        status = await client.status("top")()
        assert (status.state, status.reason) == ("scheduled", None)
        assert status.since is not None
        switch.gate.set()
        assert await client.result("top", timeout=BOUND)() == 1
        status = await client.status_of(scheduled.call_hash)
        assert status == await client.status("top")()
        assert status == brrr.CallStatus(
            scheduled.call_hash, "done", task_name="top", payload=b"[]", value=b"1", waiters=[]
        )


async def test_status_of_failed_and_delayed_calls(memory: str) -> None:
    async with serving(memory, handlers(Switch())) as fleet:
        with pytest.raises(brrr.CallFailedError):
            await fleet.run("refuses")
        status = await fleet.app.status("refuses")()
        assert (status.state, status.reason) == ("failed", "TerminalError: no")
        await fleet.app.schedule("top", topic=TOPIC, delay=3_600)()
        status = await fleet.app.status("top")()
        assert (status.state, status.since) == ("scheduled", None)


async def test_note_of_a_redriven_dead_letter_hides_no_running_call(memory: str) -> None:
    switch = Switch()
    async with serving(memory, handlers(switch), policy=ONCE) as fleet, brrr.connect(memory) as connection:
        client = brrr.AppConsumer(codec="json", connection=connection)
        await fleet.app.schedule("leaf", topic=TOPIC)()
        await fleet.dead(1)
        with pytest.raises(BuriedError, match=r"the call \w+ of 'leaf' was dead-lettered in delivery 1"):
            await client.result("leaf", timeout=BOUND)()
        switch.mended = True
        await fleet.connection.queue.redrive(TOPIC, limit=1)
        async with asyncio.timeout(BOUND):
            await switch.started.wait()
        assert (await client.status("leaf")()).state == "scheduled"
        with pytest.raises(ResultTimeoutError):
            await client.result("leaf", timeout=0.7)()
        switch.gate.set()
        assert await client.result("leaf", timeout=BOUND)() == 1


async def test_dead_letter_of_an_earlier_schedule_does_not_end_the_wait_of_another_client(memory: str) -> None:
    switch = Switch()
    async with serving(memory, handlers(switch), policy=ONCE) as fleet, brrr.connect(memory) as connection:
        await fleet.app.schedule("leaf", topic=TOPIC)()
        await fleet.dead(1)
        switch.mended = True
        await fleet.app.schedule("leaf", topic=TOPIC)()
        client = brrr.AppConsumer(codec="json", connection=connection)
        assert (await client.schedule("leaf", topic=TOPIC)()).state == "scheduled"
        with pytest.raises(ResultTimeoutError):
            await client.result("leaf", timeout=0.7)()
        switch.gate.set()
        assert await client.result("leaf", timeout=BOUND)() == 1
