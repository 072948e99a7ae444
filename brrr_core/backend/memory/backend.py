"""The backend class of `memory:` and `memory:name`, and its options."""

from asyncio import get_running_loop
from dataclasses import dataclass
from time import monotonic
from typing import Final

from brrr_core.backend.lifecycle import Backend, Roles
from brrr_core.backend.memory.queue import MemoryQueue
from brrr_core.backend.memory.space import Clock, Session, Space, named
from brrr_core.backend.memory.steps import MemorySteps
from brrr_core.backend.memory.store import MemoryCache, MemoryStore
from brrr_core.backend.options import BackendUrl, Duration
from brrr_core.errors import OptionError, UrlError

__all__ = ["MemoryBackend", "MemoryOptions"]

DEFAULT_LEASE: Final = Duration(30)


@dataclass(frozen=True, slots=True)
class MemoryOptions:
    """The options of `memory:`.

    Attributes:
        lease: Lease of a delivery in seconds, more than 0.
    """

    lease: Duration = DEFAULT_LEASE

    def __post_init__(self) -> None:
        if not self.lease > 0:
            raise OptionError(f"lease is {float(self.lease)} seconds", remedy="Set a lease of more than 0 seconds.")


class MemoryBackend(Backend):
    """Queue, store and cache in this process.

    `memory:` is a new space each time it is opened. `memory:name` is one space for all backends of that name in the
    process, in any event loop and thread. It stays when its backends are closed, until the process ends or
    `forget(name)` is called.

    Args:
        url: `memory:` or `memory:name`.
        options: The options, such as the lease.
        clock: The clock for leases and delays. A waiting `receive` sleeps by the time of its event loop. So a simulator
            with its own loop time passes that loop's `time`.

    Raises:
        UrlError: The URL names a host or a user.
    """

    def __init__(self, url: BackendUrl, options: MemoryOptions | None = None, *, clock: Clock = monotonic) -> None:
        if url.hosts or url.username is not None or url.password is not None:
            raise UrlError(f"{url} names a host or a user", remedy="Write memory: or memory:name.")
        self._name = url.path
        self._options = MemoryOptions() if options is None else options
        self._clock = clock

    async def start(self) -> Roles:
        """Make or find the space, which stays. Raises `BackendError` if the named space has another clock."""
        space = named(self._name, self._clock) if self._name else Space(self._clock)
        session = Session(space, get_running_loop())
        queue, store = MemoryQueue(session, self._options.lease), MemoryStore(session)
        self.opened.callback(store.close)
        self.opened.callback(queue.close)
        return Roles(queue, store, MemoryCache(session), MemorySteps(session, queue))
