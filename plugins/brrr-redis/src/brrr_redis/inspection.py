"""The topics for operators. Redis has no list of them, so the keys of a server are scanned."""

import re
from typing import Final

from brrr_core.backend import Activity, Inspector, Peeked, check_limit
from brrr_redis.client.client import Client
from brrr_redis.client.commands import script_command
from brrr_redis.layout import Layout
from brrr_redis.scripts import LIST_TOPICS, PEEK, PURGE, STATS

__all__ = ["RedisInspector"]

SCAN_COUNT: Final = 2_000
"""Keys that one command scans. The server does other work between two commands."""

MAX_PEEKED: Final = 1_000
"""Most messages of each state that a script returns."""

GLOB: Final = re.compile(rb"[*?\[\]\\^-]")


class RedisInspector(Inspector):
    """Lists and inspects topics by their keys."""

    def __init__(self, client: Client, layout: Layout) -> None:
        self._client = client
        self._layout = layout

    async def topics(self) -> list[str]:
        """Return the topics. Any list of the database is a topic if the backend has no prefix."""
        self._client.check_open()
        found: set[str] = set()
        for primary in await self._client.router.primaries():
            only = self._client.of(primary)
            found |= await self._scan(only)
        return sorted(found)

    async def _scan(self, client: Client) -> set[str]:
        prefix = self._layout.prefix
        pattern = GLOB.sub(rb"\\\g<0>", prefix) + b"*"
        found: set[str] = set()
        cursor = b"0"
        while True:
            page = script_command(LIST_TOPICS, (), cursor, pattern, prefix, SCAN_COUNT)
            cursor, keys = await client.run(page)
            found |= {topic for topic in map(self._layout.topic_of, keys) if topic is not None}
            if cursor == b"0":
                return found

    async def peek(self, topic: str, *, limit: int) -> list[Peeked]:
        """Return messages: the ready ones, and then those that are leased or delayed."""
        keys = self._layout.topic(topic)
        check_limit(limit)
        ready, leased, delayed = await self._client.run(script_command(PEEK, keys, min(limit, MAX_PEEKED)))
        peeked = [Peeked(body, "ready") for body in ready]
        peeked += [Peeked(body, "leased") for body in leased]
        peeked += [Peeked(body, "delayed") for body in delayed]
        return peeked[:limit]

    async def purge(self, topic: str) -> int:
        """Delete the ready and the delayed messages."""
        keys = self._layout.topic(topic)
        count: int = await self._client.run(script_command(PURGE, keys, retry_arguments=None))
        return count

    async def activity(self, topic: str) -> Activity:
        """Return whether a message is leased. Redis knows neither the age of messages nor who waits for one."""
        _, leased, _, _ = await self._client.run(script_command(STATS, self._layout.topic(topic)))
        return Activity(receiving=True if leased else None)
