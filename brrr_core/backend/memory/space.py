"""What a memory backend holds: topics, records and counters under one lock, private or shared by name."""

from asyncio import AbstractEventLoop
from collections.abc import Callable
from threading import Lock
from typing import Final, TypeAlias

from brrr_core.backend.contracts import Key
from brrr_core.backend.memory.topic import Topic
from brrr_core.errors import BackendClosedError, BackendError

__all__ = ["Clock", "Session", "Space", "forget", "named"]

Clock: TypeAlias = Callable[[], float]
"""Gives seconds that never go back. Leases and delays are counted by it."""


class Space:
    """The state behind one `memory:` or `memory:name`.

    The lock is held for work in memory only, never over an await: several loops in several threads share a space.
    """

    __slots__ = ("clock", "counters", "lock", "records", "topics")

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lock = Lock()
        self.topics: dict[str, Topic] = {}
        self.records: dict[Key, bytes] = {}
        self.counters: dict[str, int] = {}

    def topic(self, name: str) -> Topic:
        """The topic, made on first use. Call it with the lock held."""
        topic = self.topics.get(name)
        if topic is None:
            topic = self.topics[name] = Topic(name, self.clock, self.lock)
        return topic

    def tidy(self, topic: Topic) -> None:
        """Forget a topic that is empty, so that names that were used once cost nothing. Call it with the lock held."""
        if topic.unused and self.topics.get(topic.name) is topic:
            del self.topics[topic.name]


class Session:
    """One opening of a backend: the space, the loop that it belongs to, and whether it is still open."""

    __slots__ = ("closed", "loop", "space")

    def __init__(self, space: Space, loop: AbstractEventLoop) -> None:
        self.space = space
        self.loop = loop
        self.closed = False

    def check(self) -> None:
        """Raise `BackendClosedError` if the backend was closed."""
        if self.closed:
            raise BackendClosedError("this memory backend was closed", remedy="Use it inside its `async with`.")


# The one state of this module: by its URL alone, a name must mean the same space everywhere in the process.
_spaces: Final[dict[str, Space]] = {}
_spaces_lock: Final = Lock()


def named(name: str, clock: Clock) -> Space:
    """The space of `memory:name`, made on first use; it lives until the process ends or `forget` is called.

    Raises:
        BackendError: The space runs by another clock.
    """
    with _spaces_lock:
        space = _spaces.setdefault(name, Space(clock))
    if space.clock != clock:
        raise BackendError(
            f"memory:{name} was opened before with another clock",
            remedy="Give every backend of one name the same clock, or forget the name between tests.",
        )
    return space


def forget(name: str) -> None:
    """Forget the space of `memory:name`. Who has it open keeps it; whoever opens it next gets a new one."""
    with _spaces_lock:
        _spaces.pop(name, None)
