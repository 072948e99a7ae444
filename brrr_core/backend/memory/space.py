"""The state of a memory backend: topics, records and counters under one lock, private or shared by name."""

from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from threading import Lock
from typing import Final, TypeAlias

from brrr_core.backend.contracts import Kind
from brrr_core.backend.memory.topic import Topic
from brrr_core.backend.tasks import closed_error
from brrr_core.backend.watches import Watches
from brrr_core.errors import BackendError

__all__ = ["MAX_BYTES", "Clock", "Session", "Space", "forget", "named"]

MAX_BYTES: Final = 64 * 1024 * 1024
"""The largest message body and the largest value, in bytes."""

Clock: TypeAlias = Callable[[], float]
"""Returns seconds that never decrease. Leases and delays use it."""


class Space:
    """The state behind one `memory:` or `memory:name`.

    Event loops in several threads can share a space. So the lock is held for work in memory only, never over an await.
    """

    __slots__ = ("clock", "counters", "dead_numbers", "lock", "records", "topics", "watching")

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lock = Lock()
        self.topics: dict[str, Topic] = {}
        self.records: dict[tuple[Kind, str], bytes] = {}  # with the keys of records, or equal tuples
        self.counters: dict[str, int] = {}
        self.dead_numbers = count(1)  # of dead letters; not of a topic, because an unused topic is forgotten
        self.watching: dict[Watches, AbstractEventLoop] = {}

    def topic(self, name: str) -> Topic:
        """Return the topic, made on first use. Call it with the lock held."""
        topic = self.topics.get(name)
        if topic is None:
            topic = self.topics[name] = Topic(name, self.clock, self.lock)
        return topic

    def announce(self, call_hash: str) -> None:
        """Wake the clients that wait for a value that was created. Call it with the lock held."""
        for watches, loop in self.watching.items():
            if call_hash in watches:
                with suppress(RuntimeError):  # the loop was closed while its backend was open
                    loop.call_soon_threadsafe(watches.wake, (call_hash,))

    def forget_if_unused(self, topic: Topic) -> None:
        """Delete the topic if it is unused, so that old names take no memory. Call it with the lock held."""
        if topic.unused and self.topics.get(topic.name) is topic:
            del self.topics[topic.name]


class Session:
    """An opened backend: its space, its event loop, and whether it was closed."""

    __slots__ = ("closed", "loop", "space")

    def __init__(self, space: Space, loop: AbstractEventLoop) -> None:
        self.space = space
        self.loop = loop
        self.closed = False

    def check(self) -> None:
        """Raise `BackendClosedError` if the backend was closed."""
        if self.closed:
            raise closed_error()


# Module state, because a name must mean the same space everywhere in the process.
_spaces: Final[dict[str, Space]] = {}
_spaces_lock: Final = Lock()


def named(name: str, clock: Clock) -> Space:
    """Return the space of `memory:name`, made on first use. It lasts until the process ends or `forget` is called.

    Raises:
        BackendError: The space has another clock.
    """
    with _spaces_lock:
        space = _spaces.setdefault(name, Space(clock))
    if space.clock != clock:
        raise BackendError(
            f"memory:{name} was opened before with another clock",
            remedy="Use the same clock for every backend of one name, or call `forget` between tests.",
        )
    return space


def forget(name: str) -> None:
    """Forget the space of `memory:name`. Open backends keep it; the next one to open gets a new space."""
    with _spaces_lock:
        _spaces.pop(name, None)
