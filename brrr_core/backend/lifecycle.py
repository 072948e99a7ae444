"""The life of a backend: opened from one URL, closed whatever happened, never carried into another process."""

import asyncio
import logging
import os
import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import uniform
from types import TracebackType
from typing import Final, NoReturn, Self, TypeVar

from brrr_core.backend.contracts import Cache, Queue, Store
from brrr_core.backend.manifests import BackendManifest
from brrr_core.errors import (
    BackendClosedError,
    BackendRefusedError,
    BackendUnavailableError,
    ForkedError,
    RoleError,
)

__all__ = ["Backend", "Roles", "patiently"]

ResultT = TypeVar("ResultT")
RoleT = TypeVar("RoleT", Queue, Store, Cache)

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 2.0
"""Seconds between two attempts to open a backend, at most. A random part of up to half is left out."""

CUT_OFF: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""Errors of TLS by which a server goes away, or is not there yet."""

_log: Final = logging.getLogger("brrr.backend")


async def patiently(attempt: Callable[[], Awaitable[ResultT]], seconds: float) -> ResultT:
    """Return the result of `attempt`, which is made again while the server behind a backend is unavailable.

    The log says once that it waits. Other errors are raised at once, `BackendRefusedError` among them.

    Args:
        attempt: Leaves nothing behind when it fails.
        seconds: How long to try. The last attempt begins within that time.

    Raises:
        BackendUnavailableError: The last attempt's, with the number of attempts and how long they took.
    """
    loop = asyncio.get_running_loop()
    begun, attempts, pause = loop.time(), 0, FIRST_PAUSE
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
        await asyncio.sleep(min(uniform(pause / 2, pause), begun + seconds - loop.time()))  # noqa: S311 - jitter
        pause = min(2 * pause, LONGEST_PAUSE)


def _is_refusal(error: BaseException) -> bool:
    """Whether somebody has to mend a login or a certificate: waiting does not help."""
    each: BaseException | None = error
    looked_at: set[int] = set()  # a chain of causes and contexts can be a ring
    while each is not None and id(each) not in looked_at:
        looked_at.add(id(each))
        if isinstance(each, BackendRefusedError):
            return True
        if isinstance(each, ssl.SSLError) and not isinstance(each, CUT_OFF):
            return True
        each = each.__cause__ or each.__context__
    return False


@dataclass(frozen=True, slots=True)
class Roles:
    """What an opened backend offers; None for a role that it does not have."""

    queue: Queue | None = None
    store: Store | None = None
    cache: Cache | None = None


class Backend(ABC):
    """Owns the connections behind one URL, and offers its roles while it is open.

    A backend class implements `start` and `stop`; opening, closing and the refusals are here, the same for all.
    Use it as `async with backend:`. One backend belongs to one event loop of one process.
    """

    manifest: BackendManifest | None = None
    """What the backend can do; set where it is made from a URL, None where it was made by hand."""

    retry_for: float = 0.0
    """Seconds for which `open` tries again while the server is unavailable. A backend sets it from its options."""

    _roles: Roles | None = None
    _pid: int = 0

    @abstractmethod
    async def start(self) -> Roles:
        """Connect once, and give the roles.

        Raises:
            BackendUnavailableError: The server cannot be reached; with its address and the cause, in bounded time.
            BackendRefusedError: The server answers, and does not let this client in.
            BackendError: Trying again does not help.
        """

    @abstractmethod
    async def stop(self) -> None:
        """Release every connection, task and thread. Called once after each `start`, also after one that failed."""

    async def setup(self) -> list[str]:
        """Create what must exist before use (tables, streams, folders), idempotently. Says what it did, a line each."""
        return []

    async def open(self) -> None:
        """Open the backend; try again for `retry_for` seconds while its server is unavailable.

        After each attempt that fails, what was opened so far is closed again.

        Raises:
            BackendError: It is open already, or the last `start` raised it.
        """
        if self._roles is not None:
            raise BackendClosedError("this backend is open already", remedy="Open it once, or open a second one.")
        self._roles = await patiently(self._start, self.retry_for)
        self._pid = os.getpid()

    async def _start(self) -> Roles:
        try:
            return await self.start()
        except BaseException:
            await self.stop()
            raise

    async def close(self) -> None:
        """Close the backend. Closing what is not open does nothing."""
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
        """What the open backend offers.

        Raises:
            BackendClosedError: It is not open.
            ForkedError: It was opened in another process.
        """
        if self._roles is None:
            raise BackendClosedError("this backend is not open", remedy="Use it inside `async with`.")
        if self._pid != os.getpid():
            raise ForkedError(
                f"this backend was opened in process {self._pid} and is used in process {os.getpid()}",
                remedy="Open a backend of its own in each process.",
            )
        return self._roles

    @property
    def queue(self) -> Queue:
        """The queue. Raises `RoleError` where the backend has none, and what `roles` raises."""
        return _offered(self.roles.queue, "queue", self)

    @property
    def store(self) -> Store:
        """The store. Raises `RoleError` where the backend has none, and what `roles` raises."""
        return _offered(self.roles.store, "store", self)

    @property
    def cache(self) -> Cache:
        """The cache. Raises `RoleError` where the backend has none, and what `roles` raises."""
        return _offered(self.roles.cache, "cache", self)

    def __reduce__(self) -> NoReturn:
        raise ForkedError(
            f"a {type(self).__name__} cannot be pickled",
            remedy="Send its URL, and open a backend from it in the other process.",
        )


def _offered(role: RoleT | None, name: str, backend: Backend) -> RoleT:
    if role is None:
        raise RoleError(
            f"{type(backend).__name__} offers no {name}",
            remedy=f"Name another backend for the {name}, by its URL.",
        )
    return role
