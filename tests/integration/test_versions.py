"""A call continues with the version of the code with which it began, or its worker moves it or refuses it."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.backend import Key
from brrr_core.errors import PolicyError
from brrr_core.hooks import CallPostponed
from brrr_testkit.faults.instrument import Instrument
from brrr_testkit.waiting import until
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, UNPARKED, Fleet, over, serving, working

TOPICS = [TOPIC, "answers"]
OLD_TOPIC = "work-v1"


class Code:
    """One version of the code: a handler that makes a call, waits until it is answered, and makes another."""

    def __init__(self, version: int | None, **settings: Any) -> None:
        self.runs: list[tuple[int, str]] = []
        self.questions: set[str] = set()

        @brrr.handler_no_arg
        async def answer(question: str) -> str:
            self.questions.add(question)
            return question.upper()

        @brrr.handler(version=version, **settings)
        async def ask(app: brrr.ActiveWorker, question: str) -> str:
            self.runs.append((app.version, app.topic))
            if version in (None, 1) or app.version == 1:
                first = await app.call(answer, topic="answers")(question)
                return f"{first} {await app.call(answer, topic='answers')('again')}"
            return await app.call(answer, topic="answers")(f"new {question}")

        self.ask = ask
        self.handlers = {"ask": ask, "answer": answer}


async def begin(url: str, code: Code) -> None:
    """Let a call begin with some code, up to its first question."""
    async with serving(url, code.handlers) as fleet:
        await fleet.app.schedule(code.ask, topic=TOPIC)("a")
        await fleet.idle()


async def result(fleet: Fleet, code: Code) -> Any:
    return await fleet.app.result(code.ask, timeout=BOUND)("a")


async def test_newer_code_continues_older_calls_as_their_version(url: str) -> None:
    old, new = Code(1), Code(2, oldest_version=1)
    await begin(url, old)
    async with serving(url, new.handlers, topics=TOPICS, policy=UNPARKED) as fleet:
        assert await result(fleet, new) == "A AGAIN"
        assert await fleet.run(new.ask, "b") == "NEW B"
    assert old.runs == [(1, TOPIC)]
    assert new.runs == [(1, TOPIC)] * 2 + [(2, TOPIC)] * 2


async def test_handler_without_version_has_none_and_writes_none(memory: str) -> None:
    code = Code(None)
    async with serving(memory, code.handlers, topics=TOPICS, policy=UNPARKED) as fleet:
        await fleet.run(code.ask, "a")
        scheduled = await fleet.app.schedule(code.ask, topic=TOPIC)("a")
        assert await fleet.connection.store.read([Key("value", f"brrr.version/{scheduled.call_hash}")]) == [None]
    assert code.runs == [(0, TOPIC)] * 3


async def test_changed_code_does_not_run_for_an_older_call(url: str) -> None:
    old, new = Code(1), Code(2)
    await begin(url, old)
    async with serving(url, new.handlers, topics=TOPICS) as fleet:
        (reason,) = await fleet.dead(1)
    assert "began with version 1 of its handler, and this worker has version 2" in reason
    assert "old_topics={1: TOPIC}" in reason
    assert new.runs == []
    async with serving(url, old.handlers, topics=TOPICS) as fleet:
        await fleet.connection.queue.redrive(TOPIC, limit=1)
        assert await result(fleet, old) == "A AGAIN"


async def test_older_call_moves_to_the_topic_of_its_workers_and_stays_there(url: str) -> None:
    old, new = Code(1), Code(2, old_topics={1: OLD_TOPIC})
    await begin(url, old)
    async with (
        serving(url, new.handlers, topics=TOPICS, policy=UNPARKED) as fleet,
        serving(url, old.handlers, topics=[OLD_TOPIC], policy=UNPARKED),
    ):
        assert await result(fleet, new) == "A AGAIN"
        assert await fleet.run(new.ask, "b") == "NEW B"
        assert await fleet.idle() == (0, 0, 0, 0)
    assert old.runs == [(1, TOPIC), (1, OLD_TOPIC), (1, OLD_TOPIC)]
    assert new.runs == [(2, TOPIC)] * 2


async def test_sleeping_call_moves_when_its_timer_wakes_it(url: str) -> None:
    topics: list[str] = []

    async def sleeper(app: brrr.ActiveWorker) -> int:
        topics.append(app.topic)
        await app.sleep(0.2)
        return app.version

    old = brrr.handler(version=1)(sleeper)
    new = brrr.handler(version=2, old_topics={1: OLD_TOPIC})(sleeper)
    async with serving(url, {"sleeper": old}) as fleet:
        await fleet.app.schedule(old, topic=TOPIC)()
        await until(lambda: topics)
    async with serving(url, {"sleeper": new}) as fleet, serving(url, {"sleeper": old}, topics=[OLD_TOPIC]):
        assert await fleet.app.result(new, timeout=BOUND)() == 1
        assert await fleet.idle() == (0, 0, 0, 0)
    assert topics == [TOPIC, OLD_TOPIC]


async def test_new_code_on_the_topic_of_old_workers_is_noticed(memory: str) -> None:
    old, new = Code(1), Code(2, old_topics={1: OLD_TOPIC})
    await begin(memory, old)
    async with serving(memory, new.handlers, topics=[*TOPICS, OLD_TOPIC]) as fleet:
        (reason,) = await fleet.dead(1)
    assert f"on the topic '{OLD_TOPIC}' for version 1" in reason


async def test_call_of_newer_code_waits_for_a_worker_with_newer_code(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brrr_core.engine.versions.LOOK_AGAIN", 0.01)
    postponed: list[CallPostponed] = []

    class Hooks:
        @brrr.hookimpl
        def brrr_call_postponed(self, event: CallPostponed) -> None:
            postponed.append(event)

    old, new = Code(1), Code(2)
    await begin(memory, new)
    async with serving(memory, old.handlers, topics=TOPICS, hooks=[Hooks()]):
        await until(lambda: len(postponed) > QUICK.max_attempts)
    async with serving(memory, new.handlers) as fleet:
        assert await result(fleet, new) == "NEW A"
    assert old.runs == []
    assert "waits for a worker with version 2" in postponed[0].reason


async def test_call_that_has_not_deferred_takes_the_code_that_runs_it(memory: str) -> None:
    @brrr.handler(version=1)
    async def ask(app: brrr.ActiveWorker, question: str) -> str:
        raise OSError("before its first question")

    new = Code(2)
    async with serving(memory, {"ask": ask}, policy=replace(QUICK, max_attempts=1)) as fleet:
        await fleet.app.schedule(ask, topic=TOPIC)("a")
        await fleet.dead(1)
    async with serving(memory, new.handlers, topics=TOPICS) as fleet:
        await fleet.connection.queue.redrive(TOPIC, limit=1)
        assert await result(fleet, new) == "NEW A"


async def test_two_first_runs_with_different_code_agree_on_one_version(memory: str) -> None:
    """The second run defers while the first one, which has found no version either, still runs."""
    old, new = Code(1), Code(2)
    running, go_on = asyncio.Event(), asyncio.Event()

    @brrr.handler(version=2, old_topics={1: OLD_TOPIC})
    async def ask(app: brrr.ActiveWorker, question: str) -> str:
        running.set()
        await go_on.wait()
        return str(await app.call("answer", topic="answers")(f"new {question}"))

    async with serving(memory, {**new.handlers, "ask": ask}) as fleet:
        await fleet.app.schedule(ask, topic=TOPIC)("a")
        await running.wait()
        async with serving(memory, old.handlers, topics=[OLD_TOPIC, "answers"]) as others:
            await others.app.schedule(old.ask, topic=OLD_TOPIC, redrive=True)("a")  # it is on its way already
            assert await result(others, old) == "A AGAIN"
            go_on.set()
            assert await fleet.idle() == (0, 0, 0, 0)
            assert await others.idle() == (0, 0, 0, 0)
    assert old.questions == {"a", "again"}


async def test_retried_call_begins_with_the_code_that_runs_it(memory: str) -> None:
    old, new = Code(1), Code(2)

    @brrr.handler(version=1)
    async def ask(app: brrr.ActiveWorker, question: str) -> str:
        await app.call("answer", topic="answers")(question)
        raise brrr.TerminalError("a bug")

    async with serving(memory, {**old.handlers, "ask": ask}, topics=TOPICS) as fleet:
        with pytest.raises(brrr.CallFailedError):
            await fleet.run(ask, "a")
    async with serving(memory, new.handlers, topics=TOPICS) as fleet:
        assert await fleet.app.retry(new.ask, topic=TOPIC)("a")
        assert await result(fleet, new) == "NEW A"


async def test_version_costs_two_operations_of_the_store_for_each_call(memory: str) -> None:
    """One read when it begins, and one write when it defers first. A worker that knows the version reads it no more."""
    totals: list[Counter[str]] = []
    for version in (None, 1):
        code, instrument = Code(version), Instrument()
        async with brrr.open_backend("memory:") as backend:
            connection = over(instrument.wrap(backend), policy=UNPARKED)
            async with working(connection, code.handlers, topics=TOPICS) as fleet:
                await fleet.app.schedule(code.ask, topic=TOPIC)("a")
                await fleet.idle()
            await connection.close()
        assert len(code.runs) > 1
        totals.append(Counter({name: instrument.items[name] for name in ("store.read", "store.write", "store.swap")}))
    assert totals[1] - totals[0] == Counter({"store.read": 1, "store.swap": 1})


@pytest.mark.parametrize(
    "settings",
    [
        {"version": 0}, {"version": True}, {"version": "2"}, {"oldest_version": 1}, {"old_topics": {1: "old"}},
        {"version": 2, "oldest_version": 3}, {"version": 2, "oldest_version": 0},
        {"version": 2, "old_topics": {2: "old"}}, {"version": 2, "old_topics": {1: ""}},
        {"version": 2, "oldest_version": 1, "old_topics": {1: "old"}},
    ],
)  # fmt: skip
def test_decorator_refuses_wrong_versions(settings: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        brrr.handler_no_arg(**settings)
