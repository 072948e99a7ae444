"""The life cycle of a backend: opened in one process and event loop, and always closed."""

import asyncio
import logging
import os
import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Final, NoReturn, Self, TypeVar

from brrr_core.backend.contracts import Cache, Queue, Store
from brrr_core.backend.manifests import BackendManifest
from brrr_core.backend.options import Secret
from brrr_core.backend.steps import Steps
from brrr_core.backend.tasks import check_process, pause
from brrr_core.backend.translation import causes_of
from brrr_core.errors import (
    BackendClosedError,
    BackendRefusedError,
    BackendUnavailableError,
    BrokenPluginError,
    ForkedError,
    RoleError,
)
from brrr_core.safe_text import describe, safe_repr

__all__ = ["Backend", "Roles", "retry_while_unavailable"]

ResultT = TypeVar("ResultT")
RoleT = TypeVar("RoleT", Queue, Store, Cache)

FIRST_PAUSE: Final = 0.1
MAX_PAUSE: Final = 2.0
"""The first and the longest pause between two attempts to open a backend, in seconds."""

CONNECTION_LOST: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""TLS errors that mean that the server went away, or is not ready yet."""

_log: Final = logging.getLogger("brrr.backend")


async def retry_while_unavailable(attempt: Callable[[], Awaitable[ResultT]], seconds: float) -> ResultT:
    """Call `attempt` until it succeeds, while it raises `BackendUnavailableError`. Return its result.

    It logs once that it waits. Other errors, such as `BackendRefusedError`, are raised immediately.

    Args:
        attempt: The operation. It must clean up after a failure.
        seconds: The time limit in seconds. The last attempt begins within it.

    Raises:
        BackendUnavailableError: The error of the last attempt, with the number of attempts and the time that they took.
    """
    loop = asyncio.get_running_loop()
    begun, attempts, next_pause = loop.time(), 0, FIRST_PAUSE
    while True:
        try:
            return await attempt()
        except BackendUnavailableError as error:
            attempts, took = attempts + 1, loop.time() - begun
            if _is_refusal(error) or took >= seconds:
                if attempts > 1:
                    error.what += f", in {attempts} attempts within {took:.1f} s"
                raise
            if attempts == 1:
                _log.warning("%s Waiting for it, for up to %g s.", error, seconds)
        next_pause = await pause(next_pause, longest=MAX_PAUSE, left=begun + seconds - loop.time())


def _is_refusal(error: BaseException) -> bool:
    """Whether a login or a certificate must be fixed, so that waiting does not help."""
    return any(
        isinstance(each, BackendRefusedError)
        or (isinstance(each, ssl.SSLError) and not isinstance(each, CONNECTION_LOST))
        for each in causes_of(error)
    )


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles of an open backend. A role that it does not offer is None.

    Attributes:
        queue: The queue.
        store: The store.
        cache: The cache.
        steps: Several operations of its queue, store and cache in one round trip. It is optional.
    """

    queue: Queue | None = None
    store: Store | None = None
    cache: Cache | None = None
    steps: Steps | None = None


class Backend(ABC):
    """Owns the connections of one URL, and offers its roles while it is open.

    A backend class implements `start`. This base class opens and closes it, and refuses wrong use.
    `setup`, `start` and `stop` change nothing for other backends on the URL, in this process or another: their leases,
    receipts, delays, dead letters, records and counters stay. All messages of a closed backend also stay; those that it
    holds become ready when their leases expire, or earlier.
    Use it as `async with backend:`. A backend belongs to one event loop of one process.
    """

    manifest: BackendManifest | None = None
    """The manifest, if the backend was made from a URL; otherwise None."""

    secrets: Sequence[Secret] = ()
    """The secrets of its login, which are masked in dead letters and logs. Those of the URL are added to them."""

    retry_for: float = 0.0
    """Seconds for which `open` retries while the server is unavailable. A backend sets it from its options."""

    warnings: Sequence[str] = ()
    """Sentences about how the server may lose data. `start` sets them. Hook plugins get them."""

    _roles: Roles | None = None
    _pid: int = 0

    @abstractmethod
    async def start(self) -> Roles:
        """Connect once, and return the roles.

        Raises:
            BackendUnavailableError: The server cannot be reached. It is raised in bounded time, and has the address and
                the cause.
            BackendRefusedError: The server responds but refuses this client.
            BackendError: Another problem, which a retry does not solve.
        """

    @cached_property
    def opened(self) -> AsyncExitStack:
        """Stack of everything that `start` has opened. `stop` closes it, the last first, even if `start` failed.

        `start` adds each resource as soon as it exists: `self.opened.push_async_callback(client.close)`.
        """
        return AsyncExitStack()

    async def stop(self) -> None:
        """Close every connection, task and thread. Called once after each `start`, even if that failed."""
        await self.opened.aclose()

    async def setup(self) -> list[str]:
        """Create tables, streams or folders that do not exist yet. Return one line for each object that it created.

        The backend need not be open. `setup` can run again, and in several processes at the same time. If `start` finds
        that something is missing, it either creates it in the same way or raises an error that names `brrr setup`.
        """
        return []

    async def collect(self, *, dry_run: bool) -> list[str]:
        """Remove records that are no longer needed, from the open backend. Return one line for each kind of them.

        Servers that remove expired records by themselves need not implement it.

        Args:
            dry_run: Only say what would be removed.
        """
        del dry_run
        return []

    async def open(self) -> None:
        """Open the backend. Retry for `retry_for` seconds while its server is unavailable.

        After each failed attempt, `stop` closes everything that was opened. If `stop` raises too, the error of `start`
        is raised, with a note of the other one.

        Raises:
            BackendError: The backend is open already, or the last `start` raised this error.
            BrokenPluginError: `start` returned another object than `Roles`.
        """
        if self._roles is not None:
            raise BackendClosedError("this backend is open already", remedy="Open it once, or make a second backend.")
        self._roles = await retry_while_unavailable(self._start, self.retry_for)
        self._pid = os.getpid()

    async def _start(self) -> Roles:
        try:
            roles = await self.start()
            if not isinstance(roles, Roles):  # pyright: ignore[reportUnnecessaryIsInstance] - authors without types
                raise BrokenPluginError(
                    f"{type(self).__name__}.start returned {safe_repr(roles)} in place of Roles",
                    remedy="Let `start` return `Roles(queue, store, cache)`, with None for each role that it lacks.",
                )
        except BaseException as error:
            try:
                await self.stop()
            except Exception as second:  # noqa: BLE001 - the first error is the cause, and this one its companion
                error.add_note(f"`stop` failed too: {describe(second)}")
            raise
        return roles

    async def close(self) -> None:
        """Close the backend. If it is not open, do nothing."""
        if self._roles is not None:
            self._roles = None
            await self.stop()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def roles(self) -> Roles:
        """The roles of the open backend.

        Raises:
            BackendClosedError: The backend is not open.
            ForkedError: The backend was opened in another process.
        """
        if self._roles is None:
            raise BackendClosedError("this backend is not open", remedy="Use it inside `async with`.")
        check_process(self._pid)
        return self._roles

    @property
    def queue(self) -> Queue:
        """The queue. Raises `RoleError` if the backend has no queue, and the errors of `roles`."""
        return _required_role(self.roles.queue, "queue", self)

    @property
    def store(self) -> Store:
        """The store. Raises `RoleError` if the backend has no store, and the errors of `roles`."""
        return _required_role(self.roles.store, "store", self)

    @property
    def cache(self) -> Cache:
        """The cache. Raises `RoleError` if the backend has no cache, and the errors of `roles`."""
        return _required_role(self.roles.cache, "cache", self)

    @property
    def steps(self) -> Steps | None:
        """Its steps, if it offers them. Raises the errors of `roles`."""
        return self.roles.steps

    def __reduce__(self) -> NoReturn:
        raise ForkedError(
            f"a {type(self).__name__} cannot be pickled",
            remedy="Send its URL, and open a new backend in the other process.",
        )


def _required_role(role: RoleT | None, name: str, backend: Backend) -> RoleT:
    if role is None:
        raise RoleError(
            f"{type(backend).__name__} offers no {name}",
            remedy=f"Pass the URL of another backend for the {name}.",
        )
    return role
