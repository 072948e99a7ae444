"""`Backend.open` retries while the server is unavailable, for `retry_for` seconds."""

import asyncio
import logging
import ssl
from time import monotonic

import pytest

from brrr_core.backend import Backend, BackendUrl, Roles
from brrr_core.backend.memory import MemoryBackend
from brrr_core.errors import (
    BackendClosedError,
    BackendError,
    BackendRefusedError,
    BackendUnavailableError,
    BrokenPluginError,
    BrrrError,
    CorruptBackendError,
)
from brrr_testkit.waiting import until


class Late(Backend):
    """A backend that fails to open a few times.

    Args:
        failures: The errors of the first attempts. Unless `comes`, the last one is raised forever.
        comes: Whether it opens after those attempts.
    """

    def __init__(self, *failures: BrrrError, comes: bool = True, retry_for: float = 60) -> None:
        self.retry_for = retry_for
        self.failures = failures
        self.comes = comes
        self.started = 0
        self.stopped = 0
        self.inner = MemoryBackend(BackendUrl("memory"))

    async def start(self) -> Roles:
        self.started += 1
        if self.started <= len(self.failures):
            raise self.failures[self.started - 1]
        if not self.comes:
            raise self.failures[-1]
        return await self.inner.start()

    async def stop(self) -> None:
        self.stopped += 1
        await self.inner.stop()


def away(cause: BaseException | None = None) -> BackendUnavailableError:
    error = BackendUnavailableError("the server is away", remedy="Start it.")
    error.__cause__ = cause
    return error


async def test_open_waits_for_unavailable_server_and_logs_it_once(caplog: pytest.LogCaptureFixture) -> None:
    backend = Late(away(), away())

    async with backend:
        assert (backend.started, backend.stopped) == (3, 2)
        await backend.store.read([])

    assert backend.stopped == 3
    assert [(each.levelno, each.message) for each in caplog.records] == [
        (logging.WARNING, "[BRRR-BACKEND-01] the server is away. Start it. Waiting for it, for up to 60 s.")
    ]


async def test_open_raises_last_error_with_attempts_and_time_after_retry_for() -> None:
    backend = Late(away(), comes=False, retry_for=0.3)
    begun = monotonic()

    with pytest.raises(BackendUnavailableError, match=r"away, in \d+ attempts within \d+\.\d s\. Start it\."):
        await backend.open()

    assert monotonic() - begun >= 0.3
    assert backend.started == backend.stopped >= 2
    with pytest.raises(BackendClosedError):
        _ = backend.roles


@pytest.mark.parametrize(
    "error",
    [
        BackendRefusedError("wrong password"),
        BackendError("no such table"),
        CorruptBackendError("damaged"),
        away(ssl.SSLCertVerificationError("certificate verify failed")),
    ],
    ids=lambda error: type(error.__cause__ or error).__name__,
)
async def test_open_raises_at_once_if_waiting_does_not_help(error: BrrrError) -> None:
    backend = Late(error)

    with pytest.raises(type(error)) as caught:
        await backend.open()

    assert caught.value is error
    assert "attempts" not in str(error)
    assert (backend.started, backend.stopped) == (1, 1)


async def test_open_waits_if_server_cuts_tls_connection() -> None:
    async with Late(away(ssl.SSLEOFError("EOF occurred in violation of protocol"))) as backend:
        assert backend.started == 2


async def test_opening_waits_if_the_error_is_its_own_cause_in_a_ring() -> None:
    error = away()
    error.__cause__ = LookupError("the client library's")
    error.__cause__.__context__ = error

    async with Late(error) as backend:
        assert backend.started == 2


async def test_open_without_retry_for_tries_once() -> None:
    backend = Late(away(), retry_for=0)

    with pytest.raises(BackendUnavailableError, match=r"away\. Start it\."):
        await backend.open()

    assert (backend.started, backend.stopped) == (1, 1)


class Stacked(Backend):
    """A backend that opens two things, and then waits for `proceed` or fails.

    Args:
        fails: Whether `start` fails.
    """

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.begun, self.proceed = asyncio.Event(), asyncio.Event()
        self.closed: list[str] = []

    async def start(self) -> Roles:
        self.opened.push_async_callback(self.close_one, "connection")
        self.opened.callback(self.closed.append, "queue")
        self.begun.set()
        await self.proceed.wait()
        if self.fails:
            raise BackendError("no such table")
        return Roles()

    async def close_one(self, name: str) -> None:
        await asyncio.sleep(0)
        self.closed.append(name)


async def test_closing_closes_what_start_opened_the_last_first() -> None:
    backend = Stacked()
    backend.proceed.set()
    for _ in range(2):  # it can be opened again
        async with backend:
            assert backend.closed == []
        assert backend.closed == ["queue", "connection"]
        backend.closed.clear()


async def test_failed_start_closes_what_it_opened() -> None:
    backend = Stacked(fails=True)
    backend.proceed.set()

    with pytest.raises(BackendError):
        await backend.open()

    assert backend.closed == ["queue", "connection"]


async def test_cancelled_start_closes_what_it_opened() -> None:
    backend = Stacked()
    opening = asyncio.create_task(backend.open())
    await backend.begun.wait()

    opening.cancel()
    await asyncio.wait({opening})

    assert opening.cancelled()
    assert backend.closed == ["queue", "connection"]


async def test_open_cancelled_while_it_waits_ends_at_once() -> None:
    backend = Late(away(), comes=False, retry_for=3600)
    opening = asyncio.create_task(backend.open())
    await until(lambda: backend.stopped)

    opening.cancel()
    await asyncio.wait({opening}, timeout=30)

    assert opening.cancelled()
    assert backend.started == backend.stopped


class Wrong(Backend):
    """A backend whose `start` returns something else than roles, or raises, and whose `stop` can raise too."""

    def __init__(self, result: object = None, *, first: Exception | None = None, second: BaseException | None = None):
        self.result, self.first, self.second = result, first, second
        self.stopped = 0

    async def start(self) -> Roles:
        if self.first is not None:
            raise self.first
        return self.result  # type: ignore[return-value]

    async def stop(self) -> None:
        self.stopped += 1
        if self.second is not None:
            raise self.second


@pytest.mark.parametrize(("result", "shown"), [(None, "None"), (("q", "s"), "('q', 's')"), (Roles, "<class '")])
async def test_start_that_returns_no_roles_is_refused_in_words_and_stopped(result: object, shown: str) -> None:
    backend = Wrong(result)

    with pytest.raises(BrokenPluginError) as caught:
        await backend.open()

    assert f"Wrong.start returned {shown}" in caught.value.what
    assert "Let `start` return `Roles(queue, store, cache)`" in caught.value.remedy
    assert backend.stopped == 1
    with pytest.raises(BackendClosedError):
        _ = backend.roles


async def test_error_of_start_stays_the_cause_if_stop_fails_too() -> None:
    first, cause = away(), OSError("refused")
    first.__cause__ = cause

    with pytest.raises(BackendUnavailableError) as caught:
        await Wrong(first=first, second=AttributeError("no _client")).open()

    assert caught.value is first
    assert caught.value.__cause__ is cause
    assert caught.value.__notes__ == ["`stop` failed too: AttributeError: no _client"]


async def test_stop_that_is_cancelled_after_a_failed_start_cancels_the_caller() -> None:
    with pytest.raises(asyncio.CancelledError) as caught:
        await Wrong(first=away(), second=asyncio.CancelledError()).open()

    assert isinstance(caught.value.__context__, BackendUnavailableError)
