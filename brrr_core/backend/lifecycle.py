"""The life of a backend: opened from one URL, closed whatever happened, never carried into another process."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn, Self, TypeVar

from brrr_core.backend.contracts import Cache, Queue, Store
from brrr_core.backend.manifests import BackendManifest
from brrr_core.errors import BackendClosedError, ForkedError, RoleError

__all__ = ["Backend", "Roles"]

RoleT = TypeVar("RoleT", Queue, Store, Cache)


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

    _roles: Roles | None = None
    _pid: int = 0

    @abstractmethod
    async def start(self) -> Roles:
        """Connect, and give the roles.

        Raises:
            BackendError: With the server's address and the cause, in bounded time, when it cannot be reached.
        """

    @abstractmethod
    async def stop(self) -> None:
        """Release every connection, task and thread. Called once after each `start`, also after one that failed."""

    async def setup(self) -> list[str]:
        """Create what must exist before use (tables, streams, folders), idempotently. Says what it did, a line each."""
        return []

    async def open(self) -> None:
        """Open the backend. If that fails, what was opened so far is closed again.

        Raises:
            BackendError: It is open already, or `start` raised it.
        """
        if self._roles is not None:
            raise BackendClosedError("this backend is open already", remedy="Open it once, or open a second one.")
        try:
            self._roles = await self.start()
        except BaseException:
            await self.stop()
            raise
        self._pid = os.getpid()

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
