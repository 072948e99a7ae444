"""Failed calls are retried, or dead-lettered with the reason if a retry cannot help. The worker survives."""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.backend import Key
from brrr_core.errors import ArgumentError, BackendUnavailableError
from brrr_core.hooks import CallFailed
from brrr_core.safe_text import TEXT_LIMIT
from brrr_core.wire import Call, ScheduleMessage, encode_message
from brrr_testkit.faults.instrument import Instrument, Operation
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, over, serving, until_idle, working


@brrr.handler_no_arg
async def fine() -> str:
    return "fine"


class Failures:
    """Keeps what failed."""

    def __init__(self) -> None:
        self.seen: list[CallFailed] = []

    @brrr.hookimpl
    def brrr_call_failed(self, event: CallFailed) -> None:
        self.seen.append(event)


async def test_handler_that_fails_twice_succeeds_in_its_third_attempt(url: str) -> None:
    attempts: list[int] = []

    @brrr.handler
    async def flaky(app: brrr.ActiveWorker) -> str:
        attempts.append(app.attempt)
        if len(attempts) < 3:
            raise ConnectionError("not yet")
        return "at last"

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> str:
        return await app.call(flaky)()

    failures = Failures()
    async with serving(url, {"top": top, "flaky": flaky}, hooks=[failures]) as fleet:
        assert await fleet.run(top) == "at last"
        assert await fleet.idle() == (0, 0, 0, 0)
    assert attempts == [1, 2, 3]
    assert [str(event.error) for event in failures.seen] == ["not yet", "not yet"]
    delays = [event.retry_in for event in failures.seen]
    assert 0.005 <= delays[0] <= 0.01  # type: ignore[operator] # the policy's backoff, half of it jitter
    assert 0.01 <= delays[1] <= 0.02  # type: ignore[operator]


async def test_handler_that_keeps_failing_is_dead_lettered_with_its_traceback(url: str) -> None:
    attempts: list[int] = []

    @brrr.handler
    async def hopeless(app: brrr.ActiveWorker) -> None:
        attempts.append(app.attempt)
        try:
            {}["key"]
        except KeyError as error:
            raise RuntimeError("it cannot be done") from error

    failures = Failures()
    policy = replace(QUICK, max_attempts=3)
    async with serving(url, {"hopeless": hopeless, "fine": fine}, policy=policy, hooks=[failures]) as fleet:
        await fleet.app.schedule(hopeless, topic=TOPIC)()
        (reason,) = await fleet.dead(1)
        assert await fleet.idle() == (0, 0, 0, 1)
        assert await fleet.run(fine) == "fine"  # the worker continues
    assert attempts == [1, 2, 3]
    assert [event.retry_in is None for event in failures.seen] == [False, False, True]
    assert reason.startswith("RuntimeError: it cannot be done\n")
    assert "in hopeless" in reason
    assert "KeyError: 'key'" in reason  # the cause too


async def test_redriven_dead_letter_resumes_its_parents(url: str) -> None:
    mended = asyncio.Event()

    @brrr.handler_no_arg
    async def broken() -> int:
        if not mended.is_set():
            raise ValueError("broken")
        return 3

    @brrr.handler
    async def parent(app: brrr.ActiveWorker) -> int:
        return 1 + await app.call(broken)()

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return 1 + await app.call(parent)()

    policy = replace(QUICK, max_attempts=1)
    async with serving(url, {"top": top, "parent": parent, "broken": broken}, policy=policy) as fleet:
        await fleet.app.schedule(top, topic=TOPIC)()
        await fleet.dead(1)
        assert await fleet.idle() == (0, 0, 0, 1)
        mended.set()
        assert await fleet.connection.queue.redrive(TOPIC, limit=10) == 1
        assert await fleet.app.result(top, timeout=BOUND)() == 5
        assert await fleet.idle() == (0, 0, 0, 0)


async def test_call_of_unknown_task_is_dead_lettered_with_the_known_tasks(url: str) -> None:
    async with serving(url, {"fine": fine}, policy=replace(QUICK, max_attempts=2)) as fleet:
        await fleet.app.schedule("finne", topic=TOPIC)()
        (reason,) = await fleet.dead(1)
        assert await fleet.run(fine) == "fine"
    assert "BRRR-APP-02" in reason
    assert "'finne'" in reason
    assert "fine" in reason


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (Call("fine", b"\xff no json", "h1"), "BRRR-CODEC-02"),
        (Call("fine", b"[1,2,3]", "h2"), "BRRR-CODEC-02"),
        (Call("fine", b"", "h3"), "BRRR-CODEC-02"),
    ],
    ids=["not json", "too many", "empty"],
)
async def test_arguments_that_cannot_be_decoded(url: str, call: Call, said: str) -> None:
    async with serving(url, {"fine": fine}, policy=replace(QUICK, max_attempts=2)) as fleet:
        await fleet.connection.schedule(call, TOPIC)
        (reason,) = await fleet.dead(1)
        assert await fleet.idle() == (0, 0, 0, 1)
    assert said in reason
    assert "'fine'" in reason


@pytest.mark.parametrize(
    "body", [b"", b"junk", b"l1:ae", b"i2e", b"li1e1:r1:he", b"li2e1:re", b"li2e1:r0:e", b"\x00" * 1000]
)
async def test_malformed_message_is_dead_lettered_at_once(url: str, body: bytes) -> None:
    async with serving(url, {"fine": fine}) as fleet:
        await fleet.connection.queue.put(TOPIC, [body])
        (reason,) = await fleet.dead(1)
        (letter,) = await fleet.connection.queue.dead(TOPIC, limit=5)
        assert (letter.body, letter.attempt) == (body, 1)
        assert await fleet.run(fine) == "fine"
    assert "BRRR-WIRE-01" in reason


async def test_message_without_a_call_record_is_dead_lettered_at_once(url: str) -> None:
    async with serving(url, {"fine": fine}) as fleet:
        await fleet.connection.queue.put(TOPIC, [encode_message(ScheduleMessage("root", "nowhere"))])
        (reason,) = await fleet.dead(1)
        (letter,) = await fleet.connection.queue.dead(TOPIC, limit=5)
        assert letter.attempt == 1
    assert "BRRR-CALL-03" in reason
    assert "`ttl`" in reason
    assert "redrive=True" in reason
    assert "nowhere" in reason


async def test_malformed_call_record_is_dead_lettered_at_once(url: str) -> None:
    async with serving(url, {"fine": fine}) as fleet:
        await fleet.connection.store.write([(Key("call", "odd"), b"d1:ai1ee")])
        await fleet.connection.queue.put(TOPIC, [encode_message(ScheduleMessage("root", "odd"))])
        (reason,) = await fleet.dead(1)
    assert "BRRR-WIRE-01" in reason


async def test_malformed_pending_record_affects_only_its_own_parents(url: str) -> None:
    @brrr.handler_no_arg
    async def leaf(n: int) -> int:
        return n

    @brrr.handler
    async def parent(app: brrr.ActiveWorker, n: int) -> int:
        return await app.call(leaf)(n)

    async with serving(url, {"parent": parent, "leaf": leaf}) as fleet:
        poisoned = fleet.app._catalogue.encode(leaf, (13,), {}).call_hash
        await fleet.connection.store.write([(Key("pending_returns", poisoned), b"poison")])
        for n in range(20):  # concurrently: they share batches
            await fleet.app.schedule(parent, topic=TOPIC)(n)
        for n in (*range(13), *range(14, 20)):
            assert await fleet.app.result(parent, timeout=BOUND)(n) == n
        (reason,) = await fleet.dead(1)
    assert "BRRR-WIRE-01" in reason


async def test_result_that_cannot_be_encoded_is_dead_lettered_without_retry(url: str) -> None:
    runs: Counter[str] = Counter()

    @brrr.handler_no_arg
    async def odd() -> object:
        runs["odd"] += 1
        return object()

    async with serving(url, {"odd": odd}) as fleet:
        await fleet.app.schedule(odd, topic=TOPIC)()
        (reason,) = await fleet.dead(1)
    assert runs["odd"] == 1
    assert "BRRR-CODEC-01" in reason


async def test_argument_that_cannot_be_encoded_fails_its_caller_without_retry(url: str) -> None:
    runs: Counter[str] = Counter()

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> str:
        runs["top"] += 1
        return await app.call("leaf", returns=str)(object())

    async with serving(url, {"top": top}) as fleet:
        await fleet.app.schedule(top, topic=TOPIC)()
        (reason,) = await fleet.dead(1)
    assert runs["top"] == 1
    assert "BRRR-CODEC-01" in reason


async def test_call_to_an_invalid_topic_fails_its_caller_at_once(url: str) -> None:
    runs: Counter[str] = Counter()

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> str:
        runs["top"] += 1
        return await app.call("leaf", topic="", returns=str)()

    async with serving(url, {"top": top}) as fleet:
        await fleet.app.schedule(top, topic=TOPIC)()
        (reason,) = await fleet.dead(1)
    assert runs["top"] == 1
    assert "BRRR-BACKEND-08" in reason


class MuteError(Exception):
    """Its texts cannot be made, and end the program where they are tried."""

    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


class EndlessError(Exception):
    """An error whose texts recurse endlessly."""

    def __str__(self) -> str:
        return str(self)


def _nested(depth: int) -> Exception:
    error: Exception = ValueError("innermost")
    for _ in range(depth):
        error = ExceptionGroup[Exception]("group", [error])
    return error


def _chained(length: int) -> Exception:
    error = ValueError("first")
    for _ in range(length):
        error, error.__cause__ = ValueError("next"), error
    return error


HOSTILE: dict[str, Callable[[], BaseException]] = {
    "odd syntax error": lambda: SyntaxError("hello", "abcdef"),  # type: ignore[call-overload, arg-type]
    "text that ends the program": MuteError,
    "text that recurses": EndlessError,
    "half a surrogate pair": lambda: ValueError("\ud800"),
    "ten megabytes": lambda: ValueError("x" * 10_000_000),
    "deep group": lambda: _nested(5_000),
    "wide group": lambda: ExceptionGroup("group", [MuteError() for _ in range(10_000)]),
    "long chain": lambda: _chained(50_000),
}


class Abrupt(BaseException):
    """Of no class that `except Exception` knows."""


@pytest.mark.parametrize("error", [Abrupt("abrupt"), SystemExit(3), GeneratorExit(), StopIteration(1)], ids=repr)
@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_any_exception_of_a_handler_is_a_failed_attempt(url: str, error: BaseException, sync: bool) -> None:
    async def in_the_loop() -> None:
        raise error

    def in_a_thread() -> None:
        raise error

    odd = brrr.handler_no_arg(in_a_thread if sync else in_the_loop)
    async with serving(url, {"odd": odd, "fine": fine}, policy=replace(QUICK, max_attempts=2)) as fleet:
        await fleet.app.schedule("odd", topic=TOPIC)()
        (reason,) = await fleet.dead(1)
        (letter,) = await fleet.connection.queue.dead(TOPIC, limit=5)
        assert letter.attempt == 2
        assert await fleet.run(fine) == "fine"
    assert type(error).__name__ in reason


async def _exits(app: brrr.ActiveWorker) -> None:
    await app.call(fine)()
    raise SystemExit("of a helper")


@brrr.handler
async def gathers_exit(app: brrr.ActiveWorker) -> None:
    await app.gather(_exits(app), app.call(fine)())


@brrr.handler
def waits_for_exit(app: brrr.ActiveWorker) -> None:
    app.wait(_exits(app))


@brrr.handler
async def threads_exit(app: brrr.ActiveWorker) -> None:
    await app.gather(asyncio.to_thread(sys.exit, "of a helper"))


@pytest.mark.parametrize("task", [gathers_exit, waits_for_exit, threads_exit], ids=lambda task: task.name)
async def test_exit_in_a_helper_is_the_failure_of_its_call(url: str, task: Any) -> None:
    handlers = {task.name: task, "fine": fine}
    async with serving(url, handlers, policy=replace(QUICK, max_attempts=2)) as fleet:
        await fleet.app.schedule(task, topic=TOPIC)()
        (reason,) = await fleet.dead(1)
        assert await fleet.run(fine) == "fine"
    assert reason.startswith("SystemExit: of a helper\n")


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_error_that_cannot_be_formatted_is_dead_lettered_with_its_class(url: str, hostile: str) -> None:
    @brrr.handler_no_arg
    async def odd() -> None:
        error = HOSTILE[hostile]()
        raise error

    policy = replace(QUICK, max_attempts=2)
    async with serving(url, {"odd": odd}, policy=policy) as fleet:
        await fleet.app.schedule(odd, topic=TOPIC)()
        (reason,) = await fleet.dead(1)
        (letter,) = await fleet.connection.queue.dead(TOPIC, limit=5)
    assert letter.attempt == 2
    assert type(HOSTILE[hostile]()).__name__ in reason.splitlines()[0]
    assert "in odd" in reason
    assert len(reason) <= 2 * TEXT_LIMIT + 2


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_traceback_of_a_dead_letter_begins_at_the_handler(memory: str, sync: bool) -> None:
    def helper() -> None:
        raise ValueError("broken")

    async def in_the_loop(app: brrr.ActiveWorker) -> None:
        helper()

    def in_a_thread(app: brrr.ActiveWorker) -> None:
        helper()

    odd = brrr.handler(in_a_thread if sync else in_the_loop)
    async with serving(memory, {"odd": odd}, policy=replace(QUICK, max_attempts=1)) as fleet:
        await fleet.app.schedule("odd", topic=TOPIC)()
        (reason,) = await fleet.dead(1)
    frames = [line.rpartition(" in ")[2] for line in reason.splitlines() if line.startswith("  File ")]
    assert frames == ["in_a_thread" if sync else "in_the_loop", "helper"]


async def test_traceback_without_a_frame_of_the_handler_is_whole(memory: str) -> None:
    async with serving(memory, {"fine": fine}, policy=replace(QUICK, max_attempts=1)) as fleet:
        await fleet.app.schedule("unheard of", topic=TOPIC)()
        (reason,) = await fleet.dead(1)
    assert "in handle" in reason


async def test_handler_that_cancels_itself_has_failed(url: str) -> None:
    @brrr.handler_no_arg
    async def odd() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async with serving(url, {"odd": odd, "fine": fine}, policy=replace(QUICK, max_attempts=2)) as fleet:
        await fleet.app.schedule(odd, topic=TOPIC)()
        (reason,) = await fleet.dead(1)
        assert await fleet.run(fine) == "fine"
    assert "CancelledError" in reason


async def test_message_over_max_deliveries_is_dead_lettered_without_running(url: str) -> None:
    runs: Counter[str] = Counter()

    @brrr.handler_no_arg
    async def leaf() -> None:
        runs["leaf"] += 1
        raise OSError("again")

    async with serving(url, {"leaf": leaf}, policy=replace(QUICK, max_attempts=100, max_deliveries=3)) as fleet:
        await fleet.app.schedule(leaf, topic=TOPIC)()
        (reason,) = await fleet.dead(1)
    assert runs["leaf"] == 3
    assert "BRRR-CALL-04" in reason
    assert "delivered 4 times" in reason


async def test_call_that_waits_for_itself_is_dead_lettered_at_once(url: str) -> None:
    @brrr.handler
    async def narcissus(app: brrr.ActiveWorker, n: int) -> object:
        return await app.gather(app.call(fine)(), app.call(narcissus)(n))

    async with serving(url, {"narcissus": narcissus, "fine": fine}) as fleet:
        await fleet.app.schedule(narcissus, topic=TOPIC)(1)
        (reason,) = await fleet.dead(1)
    assert "BRRR-ENGINE-04" in reason
    assert "called itself with its own arguments" in reason


async def test_backend_error_of_the_handlers_own_code_is_a_failed_attempt(url: str) -> None:
    @brrr.handler_no_arg
    async def elsewhere() -> None:
        raise BackendUnavailableError("their own store is down", remedy="Wait.")

    failures = Failures()
    policy = replace(QUICK, max_attempts=2)
    async with serving(url, {"elsewhere": elsewhere}, policy=policy, hooks=[failures]) as fleet:
        await fleet.app.schedule(elsewhere, topic=TOPIC)()
        (reason,) = await fleet.dead(1)
    assert "their own store is down" in reason
    assert [event.attempt for event in failures.seen] == [1, 2]


async def test_handler_that_catches_the_workers_backend_error_runs_again(memory: str) -> None:
    values: list[str] = []

    @brrr.handler
    async def optimist(app: brrr.ActiveWorker) -> str:
        try:
            values.append(await app.call(fine)())
        except Exception:  # noqa: BLE001 - what users write
            values.append("whatever")
        return values[-1]

    instrument = Instrument()

    async def refuse_once(operation: Operation) -> None:
        if operation.name == "store.read" and any(key.kind == "value" for key in operation.items) and values:
            return
        if operation.name == "store.read" and [key.kind for key in operation.items] == ["value"] and not values:
            raise BackendUnavailableError("the store is away for a moment")

    async with brrr.open_backend(memory) as backend:
        connection = over(instrument.wrap(backend), steps=False)
        async with working(connection, {"optimist": optimist, "fine": fine}) as fleet:
            await fleet.app.schedule(optimist, topic=TOPIC)()
            instrument.before = refuse_once
            await until_idle(connection.queue, [TOPIC])
            assert await fleet.app.read(optimist)() == "fine"
    assert values == ["whatever", "fine"]


@pytest.mark.parametrize("topic", [5, ""])
async def test_invalid_topic_is_refused_by_call(memory: str, topic: str) -> None:
    @brrr.handler
    async def lost(app: brrr.ActiveWorker) -> str:
        return await app.call(fine, topic=topic)()

    async with serving(memory, {"lost": lost, "fine": fine}) as fleet:
        with pytest.raises(ArgumentError):
            await fleet.app.schedule(fine, topic=topic)()
        await fleet.app.schedule(lost, topic=TOPIC)()
        (reason,) = await fleet.dead(1)
    assert "the topic is" in reason
