"""A forgotten call is computed again. Calls that others need are kept, and an interrupted request can be repeated."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.backend import Key
from brrr_core.engine.forgetting import Forgetter, ToForget
from brrr_core.errors import BackendUnavailableError, NotFoundError, StillNeededError
from brrr_explain import ForgottenTree, forget
from brrr_testkit.faults.instrument import Instrument, Operation
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, UNPARKED, over, serving, working


class Runs:
    """Handlers that count their runs, and return a number that changes."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.factor = 1

    def handlers(self) -> dict[str, brrr.Task]:
        @brrr.handler_no_arg
        async def leaf(n: int) -> int:
            self.counts[f"leaf {n}"] += 1
            return n * self.factor

        @brrr.handler(replay=True)
        async def middle(app: brrr.ActiveWorker, n: int) -> int:
            await app.sleep(0.01, key="nap")
            first = await app.call(leaf)(n)
            return first + await app.call(leaf)(n + 1)

        @brrr.handler(replay=True)
        async def top(app: brrr.ActiveWorker, n: int) -> int:
            return sum(await app.gather(*map(app.call(middle), range(n))))

        @brrr.handler(replay=True)
        async def waits(app: brrr.ActiveWorker) -> int:
            return await app.call(leaf)(1) + int(await app.event("go"))

        return {task.name: task for task in (leaf, middle, top, waits)}


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for workers, in tests without a worker that keeps a value."""
    monkeypatch.setattr("brrr_core.engine.forgetting.MARKER_DELAY", 0)


async def hashes(fleet: Any, *calls: tuple[str, Any]) -> list[str]:
    return [(await fleet.app.status(task)(*args)).call_hash for task, *args in calls]


async def forgotten(fleet: Any, task: str, *args: Any, **options: Any) -> ForgottenTree:
    catalogue = fleet.app._catalogue
    return await forget(catalogue, catalogue.encode(task, args, {}), **options)


async def left(fleet: Any, call_hash: str) -> list[str]:
    """Return the kinds of records that a call still has."""
    names = ("call", "pending_returns", "value")
    records = await fleet.connection.read([Key(kind, call_hash) for kind in names])  # type: ignore[arg-type]
    return [name for name, record in zip(names, records, strict=True) if record is not None]


async def test_forgotten_call_is_computed_again_by_a_worker_that_had_its_value(memory: str) -> None:
    runs = Runs()
    async with serving(memory, runs.handlers()) as fleet:
        assert await fleet.run("middle", 1) == 3
        runs.factor = 10
        (middle, leaf) = await hashes(fleet, ("middle", 1), ("leaf", 1))
        await fleet.app.forget("leaf")(1)
        assert await left(fleet, leaf) == []
        await fleet.app.forget("middle")(1)
        assert await left(fleet, middle) == []
        assert await fleet.run("middle", 1) == 10 + 2
        assert runs.counts == {"leaf 1": 2, "leaf 2": 1}


async def test_tree_is_forgotten_as_a_whole(url: str) -> None:
    runs = Runs()
    async with serving(url, runs.handlers()) as fleet:
        assert await fleet.run("top", 3) == 9
        names = await hashes(fleet, ("top", 3), *(("middle", n) for n in range(3)), *(("leaf", n) for n in range(4)))
        done = await forgotten(fleet, "top", 3)
        assert (len(done.forgotten), done.kept, done.unknown) == (8, {}, [])
        assert [await left(fleet, name) for name in names] == [[]] * 8
        keys = [Key("value", f"brrr.{kind}/{name}") for kind in ("state", "version", "buried") for name in names]
        assert not any(await fleet.connection.read(keys))
        runs.factor = 2
        assert await fleet.run("top", 3) == 18


@pytest.mark.usefixtures("at_once")
async def test_call_that_others_wait_for_and_all_below_it_is_kept(memory: str) -> None:
    runs = Runs()
    async with serving(memory, runs.handlers(), policy=QUICK) as fleet:
        await fleet.app.schedule("waits", topic=TOPIC)()
        await fleet.idle()
        with pytest.raises(StillNeededError, match="has no outcome"):
            await fleet.app.forget("waits")()
        with pytest.raises(StillNeededError, match="has no outcome"):
            await fleet.app.forget("waits", tree=True)()
        (leaf,) = await hashes(fleet, ("leaf", 1))
        assert "value" in await left(fleet, leaf)
        await fleet.app.event("go").complete(5)
        assert await fleet.app.result("waits", timeout=30)() == 6


@pytest.mark.usefixtures("at_once")
async def test_kept_tasks_and_the_calls_below_them_stay(memory: str) -> None:
    runs = Runs()
    async with serving(memory, runs.handlers()) as fleet:
        await fleet.run("top", 3)
        done = await forgotten(fleet, "top", 3, keep=["middle"])
        assert [node.task_name for node in done.forgotten] == ["top"]
        assert len(done.kept) == 7
        await fleet.run("top", 3)
        assert max(runs.counts.values()) == 1


@pytest.mark.usefixtures("at_once")
async def test_calls_that_run_again_meanwhile_are_kept(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another operator forgets the same calls first, and schedules them again."""
    gate, begun = asyncio.Event(), asyncio.Event()
    gate.set()

    @brrr.handler_no_arg
    async def leaf() -> int:
        begun.set()
        await gate.wait()
        return 1

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return await app.call(leaf)() + 1

    async with serving(memory, {"leaf": leaf, "top": top}, policy=UNPARKED) as fleet:
        assert await fleet.run(top) == 2
        names = await hashes(fleet, ("leaf",), ("top",))
        calls = [ToForget(name, ()) for name in names]
        look = Forgetter._look

        async def look_early(self: Forgetter, chosen: Sequence[ToForget]) -> Any:
            found = await look(self, chosen)
            monkeypatch.undo()
            assert (await fleet.connection.forget(calls)).forgotten == names
            gate.clear()
            begun.clear()
            await fleet.app.schedule(top, topic=TOPIC)()
            await begun.wait()
            return found

        monkeypatch.setattr(Forgetter, "_look", look_early)
        forgotten, kept = await fleet.connection.forget(calls)
        gate.set()
        assert (forgotten, kept) == ([], dict.fromkeys(names, "it runs again"))
        assert await fleet.app.result(top, timeout=BOUND)() == 2


async def test_unknown_call_is_not_found(memory: str) -> None:
    async with serving(memory, Runs().handlers()) as fleet:
        assert await fleet.app.forget("leaf")(1) == 0
        with pytest.raises(NotFoundError):
            await fleet.app.forget("top", tree=True)(1)


@pytest.mark.usefixtures("at_once")
async def test_force_forgets_a_call_that_is_scheduled(memory: str) -> None:
    async with serving(memory, Runs().handlers(), topics=()) as fleet:
        await fleet.app.schedule("leaf", topic=TOPIC)(1)
        (leaf,) = await hashes(fleet, ("leaf", 1))
        assert await fleet.app.forget("leaf", force=True)(1) == 1
        assert await left(fleet, leaf) == []


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("at", range(1, 12))
async def test_request_that_dies_anywhere_can_be_repeated(memory: str, at: int) -> None:
    """After each operation the call has its value, or none of its records; and repeating completes the request."""
    runs = Runs()
    async with brrr.open_backend(memory) as backend:
        async with working(over(backend), runs.handlers()) as fleet:
            assert await fleet.run("middle", 1) == 3
            names = await hashes(fleet, ("middle", 1), ("leaf", 1), ("leaf", 2))
        count = 0

        async def die(operation: Operation) -> None:
            nonlocal count
            if operation.name.startswith("store.") and operation.name != "store.read":
                count += 1
                if count >= at:
                    raise BackendUnavailableError("the program has died")

        broken = over(Instrument(before=die).wrap(backend), steps=False)
        client = brrr.AppConsumer(codec="json", connection=broken, handlers=runs.handlers())
        with suppress(BackendUnavailableError):
            await client.forget("middle", tree=True)(1)
        async with working(over(backend), runs.handlers()) as fleet:
            for name in names:
                records = await left(fleet, name)
                assert records == [] or "value" in records
            if await left(fleet, names[0]):
                await forgotten(fleet, "middle", 1)
            assert [await left(fleet, name) for name in names] == [[]] * 3
            runs.factor = 5
            assert await fleet.run("middle", 1) == 15


async def test_worker_that_knows_the_marker_drops_its_values_when_calls_are_forgotten(memory: str) -> None:
    runs = Runs()
    async with serving(memory, runs.handlers()) as fleet:
        await fleet.connection._control.mark()
        assert await fleet.run("middle", 1) == 3
        (leaf,) = await hashes(fleet, ("leaf", 2))
        runs.factor = 10
        async with brrr.connect(memory) as other:
            await other.forget([ToForget(leaf, ()), ToForget((await hashes(fleet, ("middle", 1)))[0])])
        assert await fleet.run("middle", 1) == 1 + 20
