"""The synchronous client: calls of `AppConsumer` without `await`, from any number of threads."""

import asyncio
import gc
import signal
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.errors import (
    BackendClosedError,
    BackendError,
    BlockingCallError,
    ResultTimeoutError,
    ScheduleCancelledError,
    SignatureError,
    UnknownSchemeError,
    UrlError,
)
from brrr_testkit.processes import free_port
from brrr_testkit.waiting import BOUND, until, wait_until
from brrr_testkit.workloads.fleet import TOPIC, serving

THREADS = 16


@brrr.handler
async def fib(app: brrr.ActiveWorker, n: int) -> int:
    return n if n < 2 else sum(await app.gather(app.call(fib)(n - 2), app.call(fib)(n - 1)))


@brrr.handler_no_arg
async def refuse(reason: str) -> str:
    raise brrr.TerminalError(reason)


@brrr.handler
async def order(app: brrr.ActiveWorker, number: int) -> str:
    return await app.event("approval", number, returns=str)


@contextmanager
def working(url: str) -> Iterator[None]:
    """Run a worker in a thread inside the block."""
    begun, ending = threading.Event(), threading.Event()

    async def work() -> None:
        async with serving(url, {"fib": fib, "refuse": refuse, "order": order}):
            begun.set()
            await asyncio.to_thread(ending.wait)

    with ThreadPoolExecutor(1) as thread:
        worker = thread.submit(asyncio.run, work())
        assert begun.wait(BOUND)
        try:
            yield
        finally:
            ending.set()
            worker.result()


def client_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "brrr.sync"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    gc.collect()
    wait_until(lambda: not client_threads(), "the threads of clients have ended")


def test_call_is_scheduled_and_its_result_is_read(url: str) -> None:
    with working(url), brrr.sync.connect(url) as client:
        scheduled = client.schedule(fib, topic=TOPIC)(11)

        assert scheduled == brrr.Scheduled(scheduled.call_hash, scheduled.root_id, TOPIC)
        assert client.result(fib, topic=scheduled, timeout=BOUND)(11) == 89
        assert client.read(fib)(n=11) == 89
        assert (client.status(fib)(11).state, client.status(fib)(12).state) == ("done", "unknown")
        assert client.read("fib", returns=int)(11) == 89
        with pytest.raises(brrr.NotFoundError):
            client.read(fib)(12)


def test_errors_keep_their_class_and_traceback(memory: str) -> None:
    with working(memory), brrr.sync.connect(memory) as client:
        client.schedule(refuse, topic=TOPIC)("no")
        with pytest.raises(brrr.CallFailedError, match="no") as failed:
            client.result(refuse, timeout=BOUND)("no")
        with pytest.raises(ResultTimeoutError) as late:
            client.result(fib, timeout=0)(1)
        with pytest.raises(SignatureError):
            client.schedule(fib, topic=TOPIC)(m=1)  # type: ignore[call-arg]

    assert failed.value.error_type == "TerminalError"
    assert late.traceback[-1].name == "wait_for_value"


def test_calls_are_retried_and_cancelled(memory: str) -> None:
    with brrr.sync.connect(memory) as client:
        with working(memory):
            client.schedule(refuse, topic=TOPIC)("no")
            with pytest.raises(brrr.CallFailedError):
                client.result(refuse, timeout=BOUND)("no")
            assert client.retry(refuse, topic=TOPIC)("no")
            assert client.cancel(fib, topic=TOPIC)(1)
            with pytest.raises(brrr.CallFailedError) as cancelled:
                client.result(fib, timeout=BOUND)(1)
            assert cancelled.value.cancelled
        scheduled = client.schedule(fib, topic=TOPIC)(20)
        client.cancel_schedule(scheduled)
        with pytest.raises(ScheduleCancelledError):
            client.result(fib, topic=scheduled, timeout=BOUND)(20)
        client.resume_schedule(scheduled)


def test_calls_and_events_are_completed(memory: str) -> None:
    with working(memory), brrr.sync.connect(memory) as client:
        for number in (1, 2):
            client.schedule(order, topic=TOPIC)(number)

        assert client.event("approval", 1).complete("approved")
        assert not client.event("approval", 1).fail("too late")
        assert client.event("approval", 1).read(returns=str) == "approved"
        assert client.complete(order)(2)("by hand")
        assert [client.result(order, timeout=BOUND)(number) for number in (1, 2)] == ["approved", "by hand"]


def test_every_method_of_the_async_client_has_a_counterpart() -> None:
    def methods(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert methods(brrr.AppConsumer) - methods(brrr.sync.Client) == set()
    assert methods(brrr.Event) == methods(brrr.sync.Event)
    assert brrr.sync.Event.fail.__qualname__ == "Event.fail"


def test_many_threads_share_one_client(url: str) -> None:
    with working(url), brrr.sync.connect(url) as client, ThreadPoolExecutor(THREADS) as threads:
        begin = threading.Barrier(THREADS)

        def ask(n: int) -> int:
            begin.wait(BOUND)
            client.schedule(fib, topic=TOPIC)(n)
            return client.result(fib, timeout=BOUND)(n)

        results = list(threads.map(ask, range(THREADS)))

        assert len(client_threads()) == 1
    assert results[:8] == [0, 1, 1, 2, 3, 5, 8, 13]


async def test_call_on_event_loop_names_the_async_client(memory: str) -> None:
    client = brrr.sync.connect(memory)

    with pytest.raises(BlockingCallError, match=r"AppConsumer.*to_thread"):
        client.read(fib)(1)
    with pytest.raises(brrr.NotFoundError):
        await asyncio.to_thread(client.read(fib), 1)
    client.close()


def test_closing_ends_the_waits_of_other_threads(url: str) -> None:
    client = brrr.sync.connect(url)
    waiting = threading.Semaphore(0)

    async def endless(app: brrr.AppConsumer) -> int:
        waiting.release()
        return await app.result(fib)(1)

    with ThreadPoolExecutor(THREADS) as threads:
        waits = [threads.submit(client.wait, endless) for _ in range(THREADS)]
        assert all(waiting.acquire(timeout=BOUND) for _ in waits)
        client.close()

        for wait in waits:
            with pytest.raises(BackendClosedError, match=r"this client was closed.*brrr\.sync\.connect"):
                wait.result()
    client.close()
    with pytest.raises(BackendClosedError):
        client.read(fib)(1)


def test_closing_ends_an_opening(tmp_path: Path) -> None:
    client = brrr.sync.connect(f"redis://127.0.0.1:{free_port()}/0?retry_for=1h")
    with ThreadPoolExecutor(1) as thread:
        wait = thread.submit(client.read(fib), 1)
        wait_until(client_threads)
        client.close()

        with pytest.raises(BackendClosedError):
            wait.result()


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt; a shell lets its background processes ignore it."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.usefixtures("interrupts")
def test_interrupt_cancels_the_wait_and_leaves_the_client_usable(memory: str) -> None:
    main = threading.get_ident()
    assert main == threading.main_thread().ident
    cancelled = threading.Event()

    async def interrupted(app: brrr.AppConsumer) -> None:
        await until(lambda: client._threads[0]._waits, "the main thread waits")
        signal.pthread_kill(main, signal.SIGINT)
        try:
            await app.result(fib)(1)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with working(memory), brrr.sync.connect(memory) as client:
        with pytest.raises(KeyboardInterrupt):
            client.wait(interrupted)
        assert cancelled.wait(BOUND)

        client.schedule(fib, topic=TOPIC)(2)
        assert client.result(fib, timeout=BOUND)(2) == 1


def test_client_opens_again_after_a_failed_opening(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    with brrr.sync.connect(f"sqlite:///{folder}/brrr.db") as client:
        with pytest.raises(BackendError, match="later"):
            client.read(fib)(1)
        folder.mkdir()
        with pytest.raises(brrr.NotFoundError):
            client.read(fib)(1)


def test_failed_opening_is_forgotten_at_the_next_one(tmp_path: Path) -> None:
    client = brrr.sync.connect(f"sqlite:///{tmp_path}/missing/brrr.db")
    threads: list[weakref.ref[object]] = []
    for _ in range(3):
        with pytest.raises(BackendError):
            client.read(fib)(1)
        threads += map(weakref.ref, client._threads)
    gc.collect()

    assert [thread() for thread in threads[:-1]] == [None, None]


def test_wrong_url_and_codec_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BRRR_QUEUE", raising=False)
    with pytest.raises(UrlError):
        brrr.sync.connect()
    with pytest.raises(UnknownSchemeError):
        brrr.sync.connect("sqlight:///brrr.db")
    with pytest.raises(UnknownSchemeError):
        brrr.sync.connect("memory:", codec="jason")


def test_nothing_is_opened_before_the_first_call(memory: str) -> None:
    with brrr.sync.connect(memory):
        assert client_threads() == []


def test_dropped_client_ends_its_thread(memory: str) -> None:
    client: Any = brrr.sync.connect(memory)
    with pytest.raises(brrr.NotFoundError):
        client.read(fib)(1)
    assert len(client_threads()) == 1

    del client  # `no_thread_is_left` waits for its thread


def test_methods_show_the_parameters_of_the_async_client() -> None:
    assert "client.result(fib, timeout=30)(11)" in (brrr.sync.Client.result.__doc__ or "")
    assert "await" not in (brrr.sync.Client.schedule.__doc__ or "")
