"""A run that is longer than the timeout of its handler is cancelled, and counts as a failed attempt."""

import asyncio
import threading

import pytest

import brrr_core as brrr
from brrr_core.engine import threads
from brrr_core.errors import CallFailedError, PolicyError
from brrr_core.hooks import ThreadsAbandoned
from brrr_testkit.waiting import until
from brrr_testkit.workloads.fleet import TOPIC, serving


class Abandoned:
    """Keeps the reports of abandoned threads."""

    def __init__(self) -> None:
        self.seen: list[ThreadsAbandoned] = []

    @brrr.hookimpl
    def brrr_threads_abandoned(self, event: ThreadsAbandoned) -> None:
        self.seen.append(event)


async def test_long_run_is_cancelled_and_retried(url: str) -> None:
    runs: list[str] = []

    @brrr.handler(timeout=0.05, max_attempts=3)
    async def slow(app: brrr.ActiveWorker) -> str:
        runs.append(f"attempt {app.attempt}")
        try:
            if len(runs) < 4:
                await asyncio.Event().wait()
        finally:
            runs.append("cleaned up")
        return "in time"

    async with serving(url, {"slow": slow}) as fleet:
        assert await fleet.run(slow) == "in time"
    assert runs == ["attempt 1", "cleaned up", "attempt 2", "cleaned up", "attempt 3", "cleaned up"]


async def test_exhausted_timeouts_say_so(memory: str) -> None:
    @brrr.handler_no_arg(timeout=0.01, max_attempts=1, on_exhausted="fail")
    async def stuck() -> None:
        await asyncio.Event().wait()

    async with serving(memory, {"stuck": stuck}) as fleet:
        with pytest.raises(CallFailedError, match=r"the handler 'stuck' ran longer than its timeout of 0\.01 s"):
            await fleet.run(stuck)


async def test_timeout_error_of_the_handler_itself_is_unchanged(memory: str) -> None:
    @brrr.handler_no_arg(timeout=60, max_attempts=1, on_exhausted="fail")
    async def own() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    async with serving(memory, {"own": own}) as fleet:
        with pytest.raises(CallFailedError) as caught:
            await fleet.run(own)
    assert "longer than its timeout" not in str(caught.value)


async def test_time_of_children_does_not_count(memory: str) -> None:
    @brrr.handler_no_arg
    async def child() -> str:
        await asyncio.sleep(0.3)
        return "late"

    @brrr.handler(timeout=0.2, max_attempts=1)
    async def parent(app: brrr.ActiveWorker) -> str:
        return await app.call(child)()

    async with serving(memory, {"child": child, "parent": parent}) as fleet:
        assert await fleet.run(parent) == "late"


async def test_worker_receives_nothing_while_half_of_its_threads_are_abandoned(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "THREADS", 4)
    release = threading.Event()

    @brrr.handler_no_arg(timeout=0.02, max_attempts=1)
    def blocks(number: int) -> None:
        release.wait(30)

    @brrr.handler_no_arg
    async def fine(number: int) -> int:
        return number

    hook = Abandoned()
    async with serving(memory, {"blocks": blocks, "fine": fine}, hooks=[hook]) as fleet:
        try:
            for number in range(2):
                await fleet.app.schedule(blocks, topic=TOPIC)(number)
            await fleet.dead(2)

            async def stopped() -> bool:
                return bool(hook.seen)

            # The receive that is under way when the threads are abandoned still takes a message.
            await fleet.app.schedule(fine, topic=TOPIC)(1)
            await until(stopped)
            assert (hook.seen[0].abandoned, hook.seen[0].limit) == (2, 4)
            assert await fleet.app.result(fine, timeout=30)(1) == 1
            await fleet.app.schedule(fine, topic=TOPIC)(2)
            for _ in range(100):  # a worker that receives would have taken it
                await asyncio.sleep(0)
            assert (await fleet.stats())[:2] == (1, 0)
        finally:
            release.set()
        assert await fleet.app.result(fine, timeout=30)(2) == 2


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_timeout_must_be_a_positive_number(timeout: float) -> None:
    with pytest.raises(PolicyError, match="timeout is"):
        brrr.handler_no_arg(timeout=timeout)
