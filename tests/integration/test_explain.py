"""`explain` names the reason for each kind of standstill, and reads without an effect."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, cast

import pytest

import brrr_core as brrr
from brrr_core.backend import Cache, Key, Queue, Store
from brrr_core.errors import NotFoundError
from brrr_core.wire import PendingReturn, PendingReturns, encode_call, encode_pending
from brrr_explain import Explanation, State, redrive
from brrr_explain.drawing import lines
from brrr_testkit.waiting import until
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, serving, urls_of

ONCE = replace(QUICK, max_attempts=1)


class Effects:
    """Counts the runs of handlers that must not run in a replay."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.broken = True


def tasks(effects: Effects) -> dict[str, brrr.Task]:
    @brrr.handler_no_arg
    async def leaf(n: int) -> int:
        effects.runs.append(f"leaf {n}")
        if effects.broken and n == 3:
            raise ValueError("broken leaf")
        return n

    @brrr.handler(replay=True)
    async def parent(app: brrr.ActiveWorker, n: int) -> int:
        return sum(await app.gather(*map(app.call(leaf), range(n))))

    @brrr.handler
    async def secretive(app: brrr.ActiveWorker) -> int:
        effects.runs.append("secretive")
        return await app.call(leaf)(0)

    @brrr.handler(replay=True)
    async def elsewhere(app: brrr.ActiveWorker, topic: str) -> int:
        return await app.call(leaf, topic=topic)(1)

    @brrr.handler(replay=True)
    async def approval(app: brrr.ActiveWorker, order: int) -> Any:
        return await app.event("approval", order)

    @brrr.handler(replay=True)
    async def sleepy(app: brrr.ActiveWorker) -> None:
        await app.sleep("1h")

    @brrr.handler(replay=True)
    async def ping(app: brrr.ActiveWorker) -> int:
        return await app.call(pong)()

    @brrr.handler(replay=True)
    async def pong(app: brrr.ActiveWorker) -> int:
        return await app.call(ping)()

    @brrr.handler(replay=True)
    async def top(app: brrr.ActiveWorker, n: int) -> int:
        return await app.call(parent)(n)

    @brrr.handler(replay=True)
    async def foreign(app: brrr.ActiveWorker) -> int:
        return await app.call("theirs", returns=int, topic="other-sdk")(1)

    @brrr.handler(replay=True)
    async def sends(app: brrr.ActiveWorker) -> int:
        await app.send(leaf)(8)
        return await app.call(leaf)(3)

    @brrr.handler(replay=True)
    async def stateful(app: brrr.ActiveWorker) -> int:
        return int(app.state) + await app.call(leaf)(3)

    every = (leaf, parent, secretive, elsewhere, approval, sleepy, ping, pong, top, foreign, sends, stateful)
    return {task.name: task for task in every}


async def explained(fleet: Any, task: str, *args: Any, **options: Any) -> Explanation:
    found: Explanation = await fleet.app.explain(task, **options)(*args)
    return found


async def scheduled(fleet: Any, task: str, *args: Any, **options: Any) -> None:
    await fleet.app.schedule(task, topic=TOPIC, **options)(*args)


def problem_of(found: Explanation, task: str) -> str:
    """Return the problem and the remedy of the first node of a task that has one."""
    node = next(node for node in found.problems if node.task_name == task)
    assert node.problem is not None
    return f"{node.problem.what}. {node.problem.remedy}"


async def test_dead_leaf_is_named_with_its_reason_and_remedy(url: str) -> None:
    effects = Effects()
    async with serving(url, tasks(effects), policy=ONCE) as fleet:
        await scheduled(fleet, "top", 5)
        await fleet.dead(1)
        await fleet.idle()
        runs = list(effects.runs)
        found = await explained(fleet, "top", 5)
        assert effects.runs == runs
        assert "broken leaf" in problem_of(found, "leaf")
        assert f"brrr dead redrive {TOPIC}" in problem_of(found, "leaf")
        states = {f"{node.task_name}({node.arguments})": node.state for node in found.nodes.values()}
        assert len(states) == 7
        assert found.root.state is State.WAITING
        assert found.counts() == {State.WAITING: 2, State.DONE: 4, State.DEAD: 1}
        assert [node.task_name for node in found.problems] == ["leaf"]


async def test_failing_leaf_is_shown_with_its_last_failure_and_its_next_attempt(url: str) -> None:
    slow = replace(ONCE, max_attempts=3, backoff=600, backoff_limit=600)
    async with serving(url, tasks(Effects()), policy=slow) as fleet:
        await scheduled(fleet, "parent", 5)

        async def failed_once() -> bool:
            states = [(await fleet.app.status("leaf")(n)).state for n in range(5)]
            return states == ["done", "done", "done", "retrying", "done"]

        await until(failed_once)
        found = await explained(fleet, "parent", 5)
        assert found.counts() == {State.WAITING: 1, State.DONE: 4, State.RETRYING: 1}
        assert found.problems == []
        text = [line.text for line in lines(found)][1]
        assert re.fullmatch(
            r"leaf \[3\]: attempt 1 failed, and the next one is due at [-0-9]+ [:0-9]+: ValueError: broken leaf", text
        )


async def test_call_that_is_not_replayed_is_not_called_queued(memory: str) -> None:
    async with serving(memory, tasks(Effects()), topics=()) as fleet:
        await scheduled(fleet, "secretive")
        found = await explained(fleet, "secretive")
        (line,) = lines(found)
        assert re.fullmatch(
            r"secretive \[\]: scheduled since [-0-9]+ [:0-9]+, and not replayed: "
            r"it is not declared `@brrr.handler\(replay=True\)`",
            line.text,
        )


async def test_finished_and_unknown_calls_need_no_replay(memory: str) -> None:
    effects = Effects()
    effects.broken = False
    async with serving(memory, tasks(effects)) as fleet:
        assert await fleet.run("parent", 5) == 10
        found = await explained(fleet, "parent", 5)
        assert (found.root.state, found.root.children, found.problems) == (State.DONE, [], [])
        found = await explained(fleet, "parent", 6)
        assert (found.root.state, found.root.not_replayed) == (State.ABSENT, "it has not been scheduled")


async def test_lost_message_is_distinguished_from_a_waiting_one(url: str) -> None:
    async with serving(url, tasks(Effects()), topics=()) as fleet:
        await scheduled(fleet, "top", 2)
        found = await explained(fleet, "top", 2)
        assert f"no worker receives from the topic '{TOPIC}'" in problem_of(found, "top")
        assert f"brrr worker {TOPIC}" in problem_of(found, "top")
        (delivery,) = await fleet.connection.queue.receive(TOPIC, limit=1, wait=5)
        assert (await explained(fleet, "top", 2)).problems == []  # a worker holds it
        await fleet.connection.queue.ack([delivery])
        found = await explained(fleet, "top", 2)
        assert "its message is lost" in problem_of(found, "top")
        assert "brrr redrive" in problem_of(found, "top")


async def test_call_that_was_put_too_long_ago_is_named(memory: str) -> None:
    stale = replace(ONCE, stale_after=60)
    async with serving(memory, tasks(Effects()), topics=(), policy=stale) as fleet:
        await scheduled(fleet, "top", 2)
        await fleet.connection.queue.receive(TOPIC, limit=1, wait=5)  # a worker holds it
        assert (await explained(fleet, "top", 2)).problems == []
        key = Key("pending_returns", (await fleet.app.schedule("top", topic=TOPIC)(2)).call_hash)
        await fleet.connection.store.write([(key, encode_pending(PendingReturns((), int(time.time()) - 90)))])
        assert "ago, longer than 60 s, and still has no outcome" in problem_of(await explained(fleet, "top", 2), "top")


async def test_misspelt_topic_gets_a_hint_at_the_right_one(memory: str) -> None:
    async with serving(memory, tasks(Effects())) as fleet:
        await scheduled(fleet, "elsewhere", "wrk")
        await fleet.idle()
        found = await explained(fleet, "elsewhere", "wrk")
        assert "no worker receives from the topic 'wrk'" in problem_of(found, "leaf")
        assert f"other calls are on '{TOPIC}'" in problem_of(found, "leaf")


async def test_missing_event_and_sleep(memory: str) -> None:
    async with serving(memory, tasks(Effects())) as fleet:
        await scheduled(fleet, "approval", 7)
        await scheduled(fleet, "sleepy")
        await fleet.settled(0)
        found = await explained(fleet, "approval", 7)
        assert "the event 'approval' has not happened" in problem_of(found, "approval")
        assert "brrr complete approval" in problem_of(found, "approval")
        found = await explained(fleet, "sleepy")
        (sleep,) = found.children(found.root)
        assert (sleep.state, sleep.kind) == (State.SLEEPING, "sleep")
        assert sleep.until is not None
        assert 3_500 < sleep.until - found.at <= 3_600
        assert found.problems == []


async def test_call_over_its_spawn_limit_is_dead_with_that_reason(memory: str) -> None:
    async with serving(memory, tasks(Effects()), policy=ONCE) as fleet:
        await scheduled(fleet, "top", 9, spawn_limit=4)
        await fleet.dead(1)
        await fleet.idle()
        found = await explained(fleet, "top", 9)
        assert "BRRR-ENGINE" in problem_of(found, "parent")
        assert "spawn" in problem_of(found, "parent")


async def test_calls_that_wait_for_each_other_are_named(memory: str) -> None:
    async with serving(memory, tasks(Effects())) as fleet:
        await scheduled(fleet, "ping")
        await fleet.idle()
        found = await explained(fleet, "ping")
        assert [[node.task_name for node in cycle] for cycle in found.cycles] == [["ping", "pong"]]
        assert "it waits for itself" in problem_of(found, "pong")


async def test_lost_message_of_a_task_of_another_sdk(memory: str) -> None:
    async with serving(memory, tasks(Effects())) as fleet:
        await scheduled(fleet, "foreign")
        await fleet.settled(0)
        queue = fleet.connection.queue
        await queue.ack(await queue.receive("other-sdk", limit=1, wait=5))
        found = await explained(fleet, "foreign")
        theirs = next(node for node in found.nodes.values() if node.task_name == "theirs")
        assert theirs.not_replayed == "no handler has this name here"
        assert "the topic 'other-sdk' has none" in problem_of(found, "theirs")


async def test_full_pending_record_is_named(memory: str) -> None:
    effects = Effects()
    async with serving(memory, tasks(effects), topics=()) as fleet:
        catalogue = fleet.app._catalogue
        others = tuple(PendingReturn("r" * 22, f"{number:064x}", TOPIC) for number in range(1_000))
        leaf, parent = catalogue.encode("leaf", (0,), {}), catalogue.encode("parent", (1,), {})
        await fleet.connection.store.write(
            [
                (Key("call", parent.call_hash), encode_call(parent)),
                (Key("pending_returns", parent.call_hash), encode_pending(PendingReturns((), 1))),
                (Key("call", leaf.call_hash), encode_call(leaf)),
                (Key("pending_returns", leaf.call_hash), encode_pending(PendingReturns(others, 1))),
            ]
        )
        found = await explained(fleet, "parent", 1, topic=TOPIC)
        assert "1,000 other calls wait for leaf already" in problem_of(found, "parent")


async def test_replay_ends_before_an_effect(memory: str) -> None:
    effects = Effects()
    async with serving(memory, tasks(effects), topics=()) as fleet:
        for task, why in (
            ("secretive", "it is not declared `@brrr.handler(replay=True)`"),
            ("sends", "it uses `app.send`"),
            ("stateful", "it uses `app.state`"),
        ):
            await scheduled(fleet, task)
            found = await explained(fleet, task)
            assert (found.root.not_replayed, len(found.nodes)) == (why, 1)
        assert effects.runs == []
        found = await explained(fleet, "secretive", replay_all=True)
        assert (effects.runs, len(found.nodes)) == (["secretive"], 2)
        found = await explained(fleet, "sends", replay=False)
        assert found.root.not_replayed == "replays are turned off"
        assert (await fleet.connection.queue.stats(TOPIC)).ready == 3


async def test_topic_is_learned_from_the_records_of_children(memory: str) -> None:
    async with serving(memory, tasks(Effects())) as fleet, brrr.connect(memory) as connection:
        await scheduled(fleet, "ping")
        await fleet.idle()
        client = brrr.AppConsumer(handlers=tasks(Effects()), codec="json", connection=connection)
        found = await client.explain("ping")()
        assert [node.topic for node in found.nodes.values()] == [TOPIC, TOPIC]


class OnlyReads:
    """A role that refuses each operation with an effect, and counts the values that it returned."""

    def __init__(self, role: Any) -> None:
        self.values: Counter[str] = Counter()
        self._role = role

    def __getattr__(self, name: str) -> Any:
        if name in {"lease", "stats", "dead", "expires_after", "notifier"}:
            return getattr(self._role, name)

        def refuse(*_: Any, **__: Any) -> Any:
            raise AssertionError(f"an explanation used {name}")

        return refuse

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        records: list[bytes | None] = await self._role.read(keys)
        found = [key.call_hash for key, record in zip(keys, records, strict=True) if key.kind == "value" and record]
        self.values.update(found)
        return records


async def explain_while_it_runs(place: str | Sequence[str]) -> None:
    """Explain a running workflow again and again, without an effect on it."""
    gate, ran = asyncio.Event(), Counter[int]()

    @brrr.handler_no_arg
    async def leaf(n: int) -> int:
        ran[n] += 1
        if n % 2:
            await gate.wait()
        return n

    @brrr.handler(replay=True)
    async def parent(app: brrr.ActiveWorker, start: int) -> int:
        return sum(await app.gather(*map(app.call(leaf), range(start, start + 10))))

    @brrr.handler(replay=True)
    async def top(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(*map(app.call(parent), range(0, 40, 10))))

    handlers = {"leaf": leaf, "parent": parent, "top": top}
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(serving(place, handlers))
        opened = [await stack.enter_async_context(brrr.open_backend(each)) for each in urls_of(place)]
        queue, store = OnlyReads(opened[0].queue), OnlyReads(opened[-1].store)
        connection = brrr.Connection(cast("Queue", queue), cast("Store", store), cast("Cache", OnlyReads(None)))
        client = brrr.AppConsumer(handlers=handlers, codec="json", connection=connection)
        await scheduled(fleet, "top")
        while len(ran) < 40:
            store.values.clear()
            found = await client.explain(top)()
            assert found.problems == []
            assert not store.values or max(store.values.values()) == 1
        runs = dict(ran)
        found = await client.explain(top)()
        assert (len(found.nodes), found.problems) == (45, [])
        assert dict(ran) == runs
        gate.set()
        assert await fleet.app.result("top", timeout=BOUND)() == sum(range(40))


async def test_explaining_a_running_workflow_writes_nothing_and_runs_no_leaf(url: str) -> None:
    await explain_while_it_runs(url)


async def test_explaining_works_on_a_queue_and_a_store_of_different_kinds(places: list[str]) -> None:
    await explain_while_it_runs(places)


async def test_redrive_of_a_call_that_was_never_scheduled_is_an_error(memory: str) -> None:
    async with brrr.connect(memory) as connection:
        catalogue = brrr.AppConsumer(codec="json", connection=connection)._catalogue
        with pytest.raises(NotFoundError, match="no record of the call"):
            await redrive(catalogue, catalogue.encode("misspelt", (), {}), topic=TOPIC)


async def test_redrive_puts_each_lost_child_that_another_sdk_serves(memory: str) -> None:
    @brrr.handler(replay=True)
    async def asks(app: brrr.ActiveWorker) -> int:
        theirs = app.call("theirs", returns=int, topic="other-sdk")
        return sum(await app.gather(theirs(1), theirs(2), theirs(3)))

    async with serving(memory, {"asks": asks}) as fleet:
        queue = fleet.connection.queue
        await scheduled(fleet, "asks")
        await fleet.settled(0)
        await queue.ack(await queue.receive("other-sdk", limit=10, wait=5))
        call = fleet.app._catalogue.encode("asks", (), {})
        done = await redrive(fleet.app._catalogue, call)
        assert sorted(node.arguments for node in done.put) == ["[1]", "[2]", "[3]"]
        assert (await queue.stats("other-sdk")).ready == 3
        assert (await queue.stats(TOPIC))[:3] == (0, 0, 0)  # the parent will be woken by its children
