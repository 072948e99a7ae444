"""The topics of the memory backend, for operators."""

from asyncio import AbstractEventLoop

from brrr_core.backend.checks import check_limit, check_topic
from brrr_core.backend.inspection import Activity, Inspector, Peeked
from brrr_core.backend.memory.space import Session

__all__ = ["MemoryInspector"]


class MemoryInspector(Inspector):
    """Looks at the space of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._space = session.space
        self._loop: AbstractEventLoop = session.loop

    async def topics(self) -> list[str]:
        """Return the topics that have messages or waiting receivers."""
        self._session.check()
        with self._space.lock:
            return sorted(self._space.topics)

    async def peek(self, topic: str, *, limit: int) -> list[Peeked]:
        """Return messages: the ready ones, and then those that are leased or delayed."""
        self._session.check()
        check_topic(topic)
        check_limit(limit)
        with self._space.lock:
            found = self._space.topics.get(topic)
            return found.peek(self._space.clock(), self._loop, limit) if found else []

    async def purge(self, topic: str) -> int:
        """Delete the ready and the delayed messages."""
        self._session.check()
        check_topic(topic)
        with self._space.lock:
            found = self._space.topics.get(topic)
            if found is None:
                return 0
            count = found.purge(self._space.clock(), self._loop)
            self._space.forget_if_unused(found)
            return count

    async def activity(self, topic: str) -> Activity:
        """Return whether a receiver waits or holds a message. Times of messages are not kept."""
        self._session.check()
        check_topic(topic)
        with self._space.lock:
            found = self._space.topics.get(topic)
            if found is None:
                return Activity(receiving=False)
            receiving = found.receiving(self._space.clock(), self._loop)
            return Activity(receiving=receiving, delivered=found.delivered)
