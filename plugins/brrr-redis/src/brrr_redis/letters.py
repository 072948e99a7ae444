"""The dead letters by their ids: `MILLISECOND.DIGEST`, the time of the burial and the SHA-1 digest of the element."""

import re
from collections.abc import Iterable, Sequence
from hashlib import sha1
from typing import Final

from brrr_core.backend import DeadLetter, LetterBox, StoredLetter, check_limit
from brrr_redis.client.client import Client
from brrr_redis.client.commands import Word, script_command
from brrr_redis.layout import Layout
from brrr_redis.scripts import FIND_LETTERS, PAGE_LETTERS, TAKE_LETTERS

__all__ = ["RedisLetters", "dead_letter"]

MAX_FOUND_LETTERS: Final = 100
"""Most ids of one script. Each may need a search, and a server does nothing else while a script runs."""

MAX_READ_LETTERS: Final = 1_000
"""Most dead letters of one page."""

ID: Final = re.compile(r"([0-9]{1,15})\.([0-9a-f]{40})")


class RedisLetters(LetterBox):
    """Finds dead letters by binary search in their list, which is ordered by time. They need no index."""

    def __init__(self, client: Client, layout: Layout) -> None:
        self._client = client
        self._layout = layout

    async def page(self, topic: str, *, limit: int, after: str | None = None) -> list[StoredLetter]:
        """Return the next dead letters."""
        keys = self._layout.topic(topic)
        check_limit(limit)
        words = _words([after]) if after is not None else []
        page = script_command(PAGE_LETTERS, keys, min(limit, MAX_READ_LETTERS), *words)
        return [_stored(topic, element) for element in await self._client.run(page)]

    async def find(self, topic: str, ids: Sequence[str]) -> list[StoredLetter]:
        """Return the dead letters with these ids."""
        keys = self._layout.topic(topic)
        self._client.check_open()
        found: list[StoredLetter] = []
        for words in _batches(ids):
            elements = await self._client.run(script_command(FIND_LETTERS, keys, *words))
            found += [_stored(topic, element) for element in elements]
        return found

    async def redrive(self, topic: str, ids: Sequence[str]) -> int:
        """Put dead letters back as new messages."""
        return await self._take(topic, ids, 1)

    async def drop(self, topic: str, ids: Sequence[str]) -> int:
        """Delete dead letters."""
        return await self._take(topic, ids, 0)

    async def _take(self, topic: str, ids: Sequence[str], redrive: int) -> int:
        keys = self._layout.topic(topic)
        self._client.check_open()
        taken = 0
        for words in _batches(ids):
            taken += await self._client.run(script_command(TAKE_LETTERS, keys, redrive, *words, retry_arguments=None))
        return taken


def dead_letter(topic: str, element: bytes) -> DeadLetter:
    """Decode a dead letter: `ATTEMPT:MILLISECOND:LENGTH:REASON` and the body."""
    attempt, millisecond, length, rest = element.split(b":", 3)
    reason, body = rest[: int(length)], rest[int(length) :]
    return DeadLetter(topic, body, reason.decode(), int(attempt), int(millisecond) / 1000)


def _stored(topic: str, element: bytes) -> StoredLetter:
    _, millisecond, _ = element.split(b":", 2)
    return StoredLetter(
        f"{millisecond.decode()}.{sha1(element, usedforsecurity=False).hexdigest()}", dead_letter(topic, element)
    )


def _words(ids: Iterable[str]) -> list[Word]:
    """Return the time and the digest of each id. Skip texts that are not ids of dead letters."""
    return [word for each in ids if (match := ID.fullmatch(each)) is not None for word in match.groups()]


def _batches(ids: Sequence[str]) -> Iterable[list[Word]]:
    words = _words(dict.fromkeys(ids))
    for begin in range(0, len(words), 2 * MAX_FOUND_LETTERS):
        yield words[begin : begin + 2 * MAX_FOUND_LETTERS]
