"""Operations for operators: find dead letters by their ids, and inspect topics. Each is one transaction."""

from collections.abc import Sequence
from sqlite3 import Connection

from brrr_core.backend import Activity, Inspector, LetterBox, Peeked, StoredLetter, check_limit, check_topic
from brrr_sqlite import messages
from brrr_sqlite.clock import Clock
from brrr_sqlite.group_commit import GroupCommit

__all__ = ["SqliteInspector", "SqliteLetters"]


class SqliteLetters(LetterBox):
    """The dead letters by their ids, which consist of a row id and the time of the burial."""

    def __init__(self, commits: GroupCommit, *, clock: Clock) -> None:
        self._commits = commits
        self._clock = clock

    async def page(self, topic: str, *, limit: int, after: str | None = None) -> list[StoredLetter]:
        """Return the next dead letters."""
        check_topic(topic)
        check_limit(limit)
        return await self._commits.read(lambda connection: messages.page_dead(connection, topic, limit, after))

    async def find(self, topic: str, ids: Sequence[str]) -> list[StoredLetter]:
        """Return the dead letters with these ids."""
        check_topic(topic)
        return await self._commits.read(lambda connection: messages.find_dead(connection, topic, ids))

    async def redrive(self, topic: str, ids: Sequence[str]) -> int:
        """Put dead letters back as new messages."""
        check_topic(topic)
        return await self._commits.write(
            lambda connection: messages.redrive_by_id(connection, topic, ids, now=self._clock()), topics=(topic,)
        )

    async def drop(self, topic: str, ids: Sequence[str]) -> int:
        """Delete dead letters."""
        check_topic(topic)
        return await self._commits.write(lambda connection: messages.drop_by_id(connection, topic, ids))


class SqliteInspector(Inspector):
    """Inspects the tables of the queue."""

    def __init__(self, commits: GroupCommit, *, clock: Clock) -> None:
        self._commits = commits
        self._clock = clock

    async def topics(self) -> list[str]:
        """Return the topics that have a message or a dead letter."""
        return await self._commits.read(messages.topics)

    async def peek(self, topic: str, *, limit: int) -> list[Peeked]:
        """Return messages in the order in which they were or will be ready."""
        check_topic(topic)
        check_limit(limit)
        return await self._commits.read(lambda connection: messages.peek(connection, topic, limit, now=self._clock()))

    async def purge(self, topic: str) -> int:
        """Delete the ready and the delayed messages."""
        check_topic(topic)
        return await self._commits.write(lambda connection: messages.purge(connection, topic, now=self._clock()))

    async def activity(self, topic: str) -> Activity:
        """Return how long the oldest message has been ready, and whether one is leased. The file lists no receivers."""
        check_topic(topic)

        def work(connection: Connection) -> Activity:
            now, due = self._clock(), messages.due(connection, topic)
            leased = messages.count(connection, topic, now=now).leased
            return Activity(None if due is None or due > now else (now - due) / 1e6, True if leased else None)

        return await self._commits.read(work)
