"""A handler that raises `Again` runs again later. It is not a failure, and uses up neither attempts nor deliveries."""

import asyncio
from dataclasses import replace

import pytest

import brrr_core as brrr
from brrr_core.errors import NotInTaskError
from brrr_core.hooks import CallFailed, CallPostponed
from brrr_testkit.workloads.fleet import QUICK, TOPIC, serving

ROUNDS = 6


class Events:
    """Keeps what the hooks report."""

    def __init__(self) -> None:
        self.seen: list[CallPostponed | CallFailed] = []

    @brrr.hookimpl
    def brrr_call_postponed(self, event: CallPostponed) -> None:
        self.seen.append(event)

    @brrr.hookimpl
    def brrr_call_failed(self, event: CallFailed) -> None:
        self.seen.append(event)


async def test_call_runs_again_until_it_returns(url: str) -> None:
    attempts: list[int] = []

    @brrr.handler
    async def poll(app: brrr.ActiveWorker) -> str:
        attempts.append(app.attempt)
        if len(attempts) < ROUNDS:
            raise brrr.Again(after=0.01)
        return "ready"

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> str:
        return await app.call(poll)()

    events = Events()
    policy = replace(QUICK, max_attempts=1, max_deliveries=2)
    async with serving(url, {"poll": poll, "top": top}, policy=policy, hooks=[events]) as fleet:
        assert await fleet.run(top) == "ready"
        assert await fleet.idle() == (0, 0, 0, 0)
    assert attempts == [1] * ROUNDS
    assert [(type(event), event.task_name) for event in events.seen] == [(CallPostponed, "poll")] * (ROUNDS - 1)


async def test_failed_attempts_still_count_after_again(memory: str) -> None:
    attempts: list[int] = []

    @brrr.handler
    async def moody(app: brrr.ActiveWorker) -> str:
        attempts.append(app.attempt)
        match len(attempts):
            case 1 | 3:
                raise OSError("not now")
            case 2:
                raise brrr.Again(after=0)
        return "done"

    async with serving(memory, {"moody": moody}) as fleet:
        assert await fleet.run(moody) == "done"
    assert attempts == [1, 2, 2, 3]


@pytest.mark.parametrize("how", ["await", "gather", "return_exceptions", "wait"])
async def test_again_passes_helpers_and_except_exception(memory: str, how: str) -> None:
    runs: list[int] = []

    @brrr.handler_no_arg
    async def child() -> int:
        return 1

    async def helper() -> int:
        runs.append(1)
        if len(runs) == 1:
            raise brrr.Again(after=0)
        return 2

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        await app.call(child)()
        try:
            if how == "await":
                return await helper()
            outcomes = await app.gather(app.call(child)(), helper(), return_exceptions=how != "gather")
            return int(str(outcomes[1]))
        except Exception:  # noqa: BLE001 - what is tested
            return -1

    @brrr.handler
    def in_thread(app: brrr.ActiveWorker) -> int:
        return app.wait(helper())

    async with serving(memory, {"child": child, "top": top, "in_thread": in_thread}) as fleet:
        assert await fleet.run(in_thread if how == "wait" else top) == 2


async def test_handler_waits_for_missing_calls_before_again(memory: str) -> None:
    """A run that misses a value defers, no matter which error it raises while it is aborted."""
    runs: list[str] = []

    @brrr.handler_no_arg
    async def child() -> str:
        runs.append("child")
        return "value"

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> str:
        try:
            value = await app.call(child)()
        except brrr.Defer:
            raise brrr.Again(after=3600) from None
        runs.append("top")
        return value

    async with serving(memory, {"child": child, "top": top}) as fleet:
        assert await fleet.run(top) == "value"
    assert runs == ["child", "top"]


async def test_handler_knows_its_call(url: str) -> None:
    @brrr.handler
    async def ask(app: brrr.ActiveWorker) -> list[str]:
        await asyncio.sleep(0)
        assert brrr.current() is app
        return [app.task_name, app.call_hash, app.root_id]

    @brrr.handler_no_arg
    def plain() -> list[str]:
        return [brrr.current().task_name, brrr.current().call_hash, brrr.current().root_id]

    async with serving(url, {"ask": ask, "plain": plain}) as fleet:
        for task, name in ((ask, "ask"), (plain, "plain")):
            done = await fleet.app.schedule(task, topic=TOPIC)()
            assert await fleet.app.result(task)() == [name, done.call_hash, done.root_id]
    with pytest.raises(NotInTaskError, match="outside a running handler"):
        brrr.current()
