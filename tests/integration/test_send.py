"""`app.send` schedules a call without waiting for it, once, under the root of the run."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.errors import ArgumentError, NondeterminismError, SignatureError, UnknownTaskError
from brrr_testkit.faults.instrument import Instrument
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, UNPARKED, over, serving, working


async def test_sent_call_runs_once_under_the_root_of_a_sender_that_does_not_wait(url: str) -> None:
    gate = asyncio.Event()
    runs: list[str] = []
    sends: Counter[str] = Counter()

    @brrr.handler
    async def note(app: brrr.ActiveWorker, text: str) -> None:
        runs.append(app.root_id)
        await gate.wait()

    @brrr.handler_no_arg
    async def inc(n: int) -> int:
        return n + 1

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        await app.send(note)("a")
        sends["a"] += 1
        number = 0
        for _ in range(3):
            number = await app.call(inc)(number)
        return number

    async with serving(url, {"note": note, "inc": inc, "top": top}, policy=UNPARKED) as fleet:
        done = await fleet.app.schedule(top, topic=TOPIC)()
        assert await fleet.app.result(top, timeout=BOUND)() == 3  # although the sent call is not done
        gate.set()
        await fleet.app.result(note, timeout=BOUND)("a")
        assert await fleet.idle() == (0, 0, 0, 0)
    assert sends["a"] > 1
    assert runs == [done.root_id]


async def test_re_run_reads_once_for_an_unfinished_sent_call_and_nothing_for_a_finished_one(memory: str) -> None:
    gate = asyncio.Event()
    reads: list[int] = []
    instrument = Instrument()

    @brrr.handler_no_arg
    async def note(text: str) -> None:
        await gate.wait()

    @brrr.handler_no_arg
    async def step(n: int) -> int:
        if n == 2:
            gate.set()
            await asyncio.sleep(0)
        return n

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        before = instrument.calls["store.read"], instrument.calls["queue.put"]
        await app.send(note)("a")
        reads.append(instrument.calls["store.read"] - before[0])
        assert len(reads) == 1 or instrument.calls["queue.put"] == before[1]
        await app.call(step)(1)
        return await app.call(step)(2)

    async with brrr.open_backend(memory) as backend:
        connection = over(instrument.wrap(backend), policy=UNPARKED, steps=False)
        async with working(connection, {"note": note, "step": step, "top": top}) as fleet:
            assert await fleet.run(top) == 2
            await fleet.app.result(note, timeout=BOUND)("a")
            assert await fleet.idle() == (0, 0, 0, 0)
        await connection.close()
    assert reads == [2, 1, 0]


async def test_delayed_call_is_put_once_and_waits(url: str) -> None:
    runs: list[str] = []

    @brrr.handler_no_arg
    async def note() -> None:
        runs.append("note")

    @brrr.handler_no_arg
    async def inc(n: int) -> int:
        return n + 1

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        await app.send(note, delay="1h")()
        runs.append("top")
        return await app.call(inc)(await app.call(inc)(0))

    async with serving(url, {"note": note, "inc": inc, "top": top}, policy=UNPARKED) as fleet:
        assert await fleet.run(top) == 2
        await fleet.settled(0)
        stats = await fleet.stats()
    assert runs == ["top"] * 3
    assert (stats.delayed, stats.dead) == (1, 0)


async def test_sent_call_can_be_called_too(url: str) -> None:
    runs: list[int] = []

    @brrr.handler_no_arg
    async def double(n: int) -> int:
        runs.append(n)
        return 2 * n

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        await app.send(double)(4)
        return await app.call(double)(4)

    async with serving(url, {"double": double, "top": top}) as fleet:
        assert await fleet.run(top) == 8
    assert runs == [4]


async def test_topics_names_helpers_and_sync_handlers(memory: str) -> None:
    topics: dict[str, str] = {}

    @brrr.handler
    async def note(app: brrr.ActiveWorker, text: str) -> None:
        topics[text] = app.topic

    @brrr.handler
    def in_thread(app: brrr.ActiveWorker) -> None:
        app.wait(app.send(note)(text="thread"))

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> None:
        await app.gather(app.send("note", topic="other")("name"), app.send(note)("helper"), app.call(in_thread)())

    handlers = {"note": note, "in_thread": in_thread, "top": top}
    async with serving(memory, handlers, topics=[TOPIC, "other"]) as fleet:
        await fleet.run(top)
        assert await fleet.idle() == (0, 0, 0, 0)
    assert topics == {"name": "other", "helper": TOPIC, "thread": TOPIC}


@brrr.handler_no_arg
async def stranger() -> None: ...


MISTAKES: list[tuple[type[Exception], Any, str | None, tuple[int, ...]]] = [
    (UnknownTaskError, stranger, None, ()),
    (ArgumentError, "top", "", ()),
    (SignatureError, "top", None, (1,)),
]


async def test_mistakes_are_errors_before_anything_is_sent(memory: str) -> None:
    errors: list[type[Exception]] = []

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> None:
        for kind, task, topic, args in MISTAKES:
            with pytest.raises(kind):
                await app.send(task, topic=topic)(*args)
            errors.append(kind)

    async with serving(memory, {"top": top}) as fleet:
        await fleet.run(top)
        assert await fleet.idle() == (0, 0, 0, 0)
    assert errors == [UnknownTaskError, ArgumentError, SignatureError]


async def test_sent_calls_count_for_the_spawn_limit(memory: str) -> None:
    @brrr.handler
    async def endless(app: brrr.ActiveWorker, n: int) -> None:
        await app.send(endless)(n + 1)

    async with serving(memory, {"endless": endless}, policy=replace(QUICK, spawn_limit=5)) as fleet:
        await fleet.app.schedule(endless, topic=TOPIC)(0)
        (reason,) = await fleet.dead(1)
    assert "caused more than 5 messages" in reason


async def test_failure_of_a_sent_call_does_not_reach_its_sender(memory: str) -> None:
    @brrr.handler_no_arg
    async def refused() -> None:
        raise brrr.TerminalError("no")

    @brrr.handler_no_arg
    async def inc(n: int) -> int:
        return n + 1

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        await app.send(refused)()
        return await app.call(inc)(1)

    async with serving(memory, {"refused": refused, "inc": inc, "top": top}) as fleet:
        assert await fleet.run(top) == 2
        with pytest.raises(brrr.CallFailedError):
            await fleet.app.result(refused, timeout=BOUND)()


async def test_redrive_puts_a_lost_sent_call_again(memory: str) -> None:
    gate = asyncio.Event()

    @brrr.handler_no_arg
    async def child() -> int:
        await gate.wait()
        return 1

    @brrr.handler_no_arg
    async def note() -> str:
        return "sent"

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        await app.send(note, topic="other")()
        return await app.call(child)()

    handlers = {"child": child, "note": note, "top": top}
    async with serving(memory, handlers) as fleet:
        await fleet.app.schedule(top, topic=TOPIC)()
        queue = fleet.connection.queue
        lost = await queue.receive("other", limit=1, wait=BOUND)
        await queue.ack(lost)
        await fleet.app.schedule(top, topic=TOPIC, redrive=True)()
        assert len(await queue.receive("other", limit=2, wait=BOUND)) == 1
        gate.set()


async def test_check_finds_a_call_that_is_not_sent_again(memory: str) -> None:
    runs: list[int] = []

    @brrr.handler_no_arg
    async def note() -> None: ...

    @brrr.handler_no_arg
    async def inc(n: int) -> int:
        return n + 1

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        runs.append(1)
        if len(runs) == 1:
            await app.send(note)()
        return await app.call(inc)(1)

    with pytest.raises(NondeterminismError, match="called note with"):
        await brrr.LocalBrrr(handlers={"note": note, "inc": inc, "top": top}).run(top)()


async def test_local_run_lasts_until_sent_calls_have_run() -> None:
    notes: list[str] = []

    @brrr.handler
    async def note(app: brrr.ActiveWorker, text: str) -> None:
        await asyncio.sleep(0.01)
        notes.append(text)
        if text == "a":
            await app.send(note)("b")

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> str:
        await app.send(note)("a")
        return "done"

    assert await brrr.LocalBrrr(handlers={"note": note, "top": top}).run(top)() == "done"
    assert notes == ["a", "b"]


async def test_local_run_raises_the_error_of_a_sent_call() -> None:
    @brrr.handler_no_arg
    async def broken() -> None:
        await asyncio.sleep(0.01)
        raise KeyError("x")

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> str:
        await app.send(broken)()
        return "done"

    with pytest.raises(KeyError):
        await brrr.LocalBrrr(handlers={"broken": broken, "top": top}).run(top)()
