"""Choose dead letters of a topic, and act on those chosen.

A search reads page by page, so its memory does not grow with the number of dead letters. It ends with those that the
topic had at its start, so a message that is redriven and dead-lettered again does not prolong it. Between two
operations, other programs may redrive or drop a chosen dead letter: then the action skips it.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from brrr_core.backend.contracts import Key, Queue
from brrr_core.backend.inspection import LetterBox, StoredLetter
from brrr_core.engine.roots import split_timer
from brrr_core.errors import CapabilityError, MalformedRecordError
from brrr_core.wire import Call, ScheduleMessage, decode_call, decode_message

__all__ = [
    "LOOKED_AT",
    "Letter",
    "LetterChoice",
    "LetterSearch",
    "Read",
    "ids_of",
    "message_in",
    "read_calls",
]

LOOKED_AT: Final = 10_000
"""The most dead letters that are read together from a queue that cannot page; queues return the oldest first."""

PAGE: Final = 500
"""The most dead letters in memory. Each has a body and a reason."""

BATCH: Final = 1_000
"""The most dead letters of one operation on the oldest ones."""

Read: TypeAlias = Callable[[Sequence[Key]], Awaitable[list[bytes | None]]]
"""Reads records of the store."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, with its call.

    Attributes:
        id: Names it on its topic; None if the queue cannot tell its dead letters apart.
        topic: The topic of the message.
        body: The message.
        reason: The reason why it was dead-lettered.
        attempt: The number of the delivery that was dead-lettered.
        buried_at: When it was dead-lettered, in unix seconds.
        call_hash: Its call; None if the body is not a valid message.
        root_id: The schedule of its call; None if the body is not a valid message.
        task_name: The task of its call; None if the store has no readable record of the call.
        payload: The encoded arguments of its call; None without a task.
    """

    id: str | None
    topic: str
    body: bytes
    reason: str
    attempt: int
    buried_at: float
    call_hash: str | None = None
    root_id: str | None = None
    task_name: str | None = None
    payload: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LetterChoice:
    """A choice of dead letters. All conditions must hold; without any, it means every dead letter.

    Attributes:
        ids: Their ids.
        task: The name of their task.
        call_hash: Their call.
        reason: A part of their reason.
        older_than: The least seconds since they were dead-lettered.
        newer_than: The most seconds since they were dead-lettered.
    """

    ids: Collection[str] | None = None
    task: str | None = None
    call_hash: str | None = None
    reason: str | None = None
    older_than: float | None = None
    newer_than: float | None = None

    def fits(self, letter: Letter, now: float) -> bool:
        """Whether a dead letter fits all conditions but the task."""
        age = now - letter.buried_at
        return (
            self.call_hash in (None, letter.call_hash)
            and (self.reason is None or self.reason in letter.reason)
            and (self.older_than is None or age >= self.older_than)
            and (self.newer_than is None or age <= self.newer_than)
        )


EVERYTHING: Final = LetterChoice()


class LetterSearch:
    """The dead letters of a topic that fit a choice.

    Args:
        queue: The queue.
        topic: The topic.
        choice: The choice.
        limit: The most dead letters, oldest first.
        read: Reads records, to know the tasks; None if the store does not answer. A choice by task needs it.
    """

    def __init__(
        self,
        queue: Queue,
        topic: str,
        choice: LetterChoice = EVERYTHING,
        *,
        limit: int | None = None,
        read: Read | None,
    ) -> None:
        self.topic = topic
        self._queue = queue
        self._choice = choice
        self._limit = limit
        self._read = read

    async def pages(self) -> AsyncGenerator[list[Letter], None]:
        """Yield the chosen dead letters, oldest first; if they are chosen by ids, in any order.

        If the queue cannot tell dead letters apart, only the 10,000 oldest are searched.

        Raises:
            CapabilityError: They are chosen by ids, and the queue cannot tell its dead letters apart.
            BackendError: A backend failed.
        """
        now, left = time.time(), self._limit
        async for page in self._stored():
            found = [letter for letter in map(_read_message, page) if self._choice.fits(letter, now)]
            if self._read is not None and found:
                found = await _with_calls(self._read, found)
            if self._choice.task is not None:
                found = [letter for letter in found if letter.task_name == self._choice.task]
            if left is not None:
                found = found[:left]
                left -= len(found)
            if found:
                yield found
            if left == 0:
                return

    async def ids(self) -> list[str]:
        """Return the ids of the chosen dead letters.

        Raises:
            CapabilityError: The queue cannot tell its dead letters apart.
            BackendError: A backend failed.
        """
        self._box()
        return [identity async for page in self.pages() for identity in ids_of(page)]

    async def redrive(self) -> int:
        """Put the chosen dead letters back on their topic as new messages. Return their number.

        Raises:
            CapabilityError: The queue cannot tell its dead letters apart.
            BackendError: A backend failed. Repeating it is safe.
        """
        return await self.act(self._queue.redrive, lambda box, letters: box.redrive(self.topic, ids_of(letters)))

    async def drop(self) -> int:
        """Delete the chosen dead letters for good. Return their number.

        Raises:
            CapabilityError: The queue cannot tell its dead letters apart.
            BackendError: A backend failed. Repeating it is safe.
        """
        return await self.act(self._queue.drop, lambda box, letters: box.drop(self.topic, ids_of(letters)))

    async def act(
        self,
        on_oldest: Callable[..., Awaitable[int]] | None,
        on_chosen: Callable[[LetterBox, Sequence[Letter]], Awaitable[int]],
    ) -> int:
        """Act on the chosen dead letters, page by page. Return the sum of the numbers that the actions return.

        Args:
            on_oldest: Acts on the `limit` oldest dead letters of a topic. It serves if all are chosen, on every queue.
            on_chosen: Acts on a page of dead letters.
        """
        if on_oldest is not None and self._choice == EVERYTHING:
            dead = (await self._queue.stats(self.topic)).dead
            return await _in_batches(on_oldest, self.topic, dead if self._limit is None else min(dead, self._limit))
        box = self._box()
        return sum([await on_chosen(box, page) async for page in self.pages()])

    def _box(self) -> LetterBox:
        if self._queue.letters is None:
            raise CapabilityError(
                f"the queue cannot tell the dead letters of {self.topic!r} apart",
                remedy="Act on all of them, or on the oldest ones with a limit.",
            )
        return self._queue.letters

    async def _stored(self) -> AsyncGenerator[list[StoredLetter], None]:
        """Yield pages of all dead letters, or of those with the ids of the choice."""
        if self._choice.ids is not None:
            ids = list(dict.fromkeys(self._choice.ids))
            for begin in range(0, len(ids), PAGE):
                yield await self._box().find(self.topic, ids[begin : begin + PAGE])
            return
        box, after, started = self._queue.letters, None, time.time()
        if box is None:
            letters = await self._queue.dead(self.topic, limit=LOOKED_AT)
            yield [StoredLetter("", letter) for letter in letters]
            return
        left = (await self._queue.stats(self.topic)).dead
        while page := await box.page(self.topic, limit=PAGE, after=after):
            # The number may be late, and the clock of another machine may differ: a new one is beyond both.
            old = [each for index, each in enumerate(page) if index < left or each.letter.buried_at <= started]
            yield old
            if len(old) < len(page):
                return
            left, after = left - len(page), page[-1].id


def ids_of(letters: Sequence[Letter]) -> list[str]:
    """Return the ids of dead letters from a queue that can tell them apart."""
    return [letter.id for letter in letters if letter.id is not None]


async def _in_batches(act: Callable[..., Awaitable[int]], topic: str, wanted: int) -> int:
    """Act on the `wanted` oldest dead letters. Return their number, which is lower if others have taken some."""
    done = 0
    while done < wanted:
        count = await act(topic, limit=min(BATCH, wanted - done))
        if count == 0:
            break
        done += count
    return done


def message_in(body: bytes) -> ScheduleMessage | None:
    """Return the message in a body; None if it is not valid. That of a timer gets the root id of its call."""
    try:
        root_id, call_hash = decode_message(body)
        return ScheduleMessage(split_timer(root_id)[1], call_hash)
    except MalformedRecordError:
        return None


def _read_message(stored: StoredLetter) -> Letter:
    identity, letter = stored
    message = message_in(letter.body)
    return Letter(
        identity or None,
        letter.topic,
        letter.body,
        letter.reason,
        letter.attempt,
        letter.buried_at,
        message.call_hash if message else None,
        message.root_id if message else None,
    )


async def _with_calls(read: Read, letters: Sequence[Letter]) -> list[Letter]:
    """Return dead letters with their tasks and arguments, as far as the store has them."""
    calls = await read_calls(read, [letter.call_hash for letter in letters if letter.call_hash is not None])
    return [
        letter
        if (call := calls.get(letter.call_hash or "")) is None
        else replace(letter, task_name=call.task_name, payload=call.payload)
        for letter in letters
    ]


async def read_calls(read: Read, call_hashes: Iterable[str]) -> dict[str, Call]:
    """Return the calls of these hashes, without those that the store lacks or that cannot be read."""
    hashes = list(dict.fromkeys(call_hashes))
    records = await read([Key("call", call_hash) for call_hash in hashes])
    found = {call_hash: _call(call_hash, record) for call_hash, record in zip(hashes, records, strict=True)}
    return {call_hash: call for call_hash, call in found.items() if call is not None}


def _call(call_hash: str, record: bytes | None) -> Call | None:
    try:
        return None if record is None else decode_call(call_hash, record)
    except MalformedRecordError:
        return None
