"""Wait for the value of a call, and notice if the call is dead-lettered instead.

If the store has a notifier, a wait reads the value before it watches the call, once more after that, and then when it
is woken. If this program has put the call, the first of these reads is left out. A wait also reads every two seconds,
because a hint may get lost, and workers of other SDKs give none. Without a notifier it polls.

All waits of a program read at the same instants, multiples of their pauses, so their reads share one batch.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from brrr_core.backend.contracts import Key, Notifier, Queue, QueueStats
from brrr_core.engine.attempts import attempt_key, read_failed_attempt
from brrr_core.engine.connection import Connection
from brrr_core.engine.letters import LOOKED_AT, message_in
from brrr_core.engine.stranding import is_stranded, note_key, read_note
from brrr_core.errors import BuriedError, ResultTimeoutError, ScheduleCancelledError
from brrr_core.wire import Buried, Call, PendingReturns, decode_pending

__all__ = ["DeadLetterScope", "DeadLetters", "blocking_letter", "wait_for_value"]

POLL_FIRST: Final = 1 / 128
POLL_LAST: Final = 0.5
"""Seconds between two reads of the value without a notifier. They double from the first to the last."""
READ_EVERY: Final = 2.0
"""Seconds between two reads of the value with a notifier, if it gives no hint."""
LOOK_EVERY: Final = 0.5
"""Seconds between two looks at the dead letters of the topic, and from the begin of a wait to the first one."""
UNSERVED_AFTER: Final = 10.0
"""Seconds after which the topic of a call counts as unserved."""
READ_AGAIN: Final = 10.0
"""Seconds after which dead letters are read again although their number has not changed."""


class _GivenUp(NamedTuple):
    """The part of a dead letter that is kept in memory."""

    call_hash: str
    attempt: int
    reason: str


class DeadLetters:
    """The dead letters of one topic. All waits share them, so the queue is read at most twice a second.

    Args:
        queue: The queue.
        topic: The topic.
    """

    def __init__(self, queue: Queue, topic: str) -> None:
        self.topic = topic
        self._queue = queue
        self._stats: QueueStats | None = None
        self._looked_at = self._read_at = float("-inf")
        self._by_call: dict[str, list[_GivenUp]] = {}
        self._by_root: dict[str, list[_GivenUp]] = {}
        self._looking = asyncio.Lock()

    async def look(self) -> QueueStats:
        """Return the statistics of the topic, at most half a second old.

        Raises:
            BackendError: The queue failed.
        """
        async with self._looking:  # held over the reads, so that all waits share them
            now = asyncio.get_running_loop().time()
            if self._stats is not None and now - self._looked_at < 0.9 * LOOK_EVERY:
                return self._stats
            stats = await self._queue.stats(self.topic)
            if self._stats is None or stats.dead != self._stats.dead or now - self._read_at >= READ_AGAIN:
                await self._read(stats.dead)
                self._read_at = now
            self._stats, self._looked_at = stats, now
            return stats

    def find(self, call_hash: str, root_id: str | None) -> Sequence[_GivenUp]:
        """Return the dead letters that may keep a call from its value, as of the last `look`.

        Args:
            call_hash: The call.
            root_id: Its schedule. If it is known, all dead letters of this schedule count, and no others. If not,
                every dead letter of the call counts.
        """
        return self._by_call.get(call_hash, ()) if root_id is None else self._by_root.get(root_id, ())

    async def _read(self, dead: int) -> None:
        letters = await self._queue.dead(self.topic, limit=min(dead, LOOKED_AT)) if dead else []
        self._by_call, self._by_root = {}, {}
        for letter in letters:
            message = message_in(letter.body)
            if message is not None:
                given_up = _GivenUp(message.call_hash, letter.attempt, letter.reason.partition("\n")[0])
                self._by_call.setdefault(message.call_hash, []).append(given_up)
                self._by_root.setdefault(message.root_id, []).append(given_up)


class DeadLetterScope(NamedTuple):
    """The dead letters among which that of a call would be.

    Attributes:
        letters: The dead letters of its topic.
        root_id: Its schedule, if known.
    """

    letters: DeadLetters
    root_id: str | None


async def wait_for_value(
    connection: Connection,
    call: Call,
    *,
    timeout: float | None,
    scope: Callable[[], DeadLetterScope | None],
    letters: Callable[[str], DeadLetters],
    show: Callable[[float, QueueStats | None], None] | None = None,
) -> bytes:
    """Wait until a call has a value, and return the encoded value.

    Args:
        connection: The connection.
        call: The call.
        timeout: The most seconds to wait; None waits forever.
        scope: Returns where its dead letter would be; None if its topic is not known. It is called each time,
            because the call may be scheduled, or scheduled again, during the wait.
        letters: Returns the dead letters of a topic. All waits of a program should share them.
        show: Called twice a second with the seconds so far, and the statistics of the topic if it is known.

    Raises:
        ResultTimeoutError: The call had no value in time.
        BuriedError: The call, a call that it waits for, or another call of its schedule, was dead-lettered.
        ScheduleCancelledError: Its schedule was cancelled.
        BackendError: A backend failed.
    """
    wait = _Wait(connection.store.notifier, call.call_hash)
    begin = wait.now()
    deadline = math.inf if timeout is None else begin + timeout
    keys = [Key("value", call.call_hash), note_key(call.call_hash)]
    stale_at = math.inf if connection.silence.stale_after is None else begin
    try:
        known = scope()
        if known is not None and known.root_id is not None:
            await wait.begin_watch()  # this program has put the call, so a first read would find nothing
        while True:
            wait.take_hint()
            value, note = await connection.read(keys)
            if value is not None:
                return value
            if wait.now() >= deadline:
                raise await _timed_out(connection, call, timeout)
            known = scope()
            if wait.now() >= begin + LOOK_EVERY:
                await _refuse_cancelled(connection, call, known)
                if note is not None:
                    await _refuse_blocked(connection, call, letters)
                if wait.now() >= stale_at:
                    stale_at = wait.now() + await _stale_in(connection, call, known)
            if await wait.begin_watch():
                continue
            read_at = min(wait.next_read(), deadline)
            while not wait.hinted.is_set() and wait.now() < read_at:
                look_at = _next(LOOK_EVERY, max(wait.now(), begin + LOOK_EVERY))
                await wait.until(min(read_at, look_at))
                if wait.now() >= look_at:
                    stats = await _look(connection, call, scope())
                    if show is not None:
                        show(wait.now() - begin, stats)
    finally:
        wait.close()


async def _timed_out(connection: Connection, call: Call, timeout: float | None) -> ResultTimeoutError:
    (note,) = await connection.read([attempt_key(call.call_hash)])
    what = f"the call {call.call_hash} of {call.task_name!r} has no value after {timeout:g} seconds"
    if (failed := read_failed_attempt(note)) is not None:
        what += f": its attempt {failed.attempt} failed, and another one is due: {failed.reason}"
    return ResultTimeoutError(
        what,
        remedy="Check that workers run on its topic, look for it with `brrr explain` or `brrr dead list`, or raise "
        "the timeout.",
    )


def _next(pause: float, now: float) -> float:
    """Return the next multiple of a pause."""
    return (now // pause + 1) * pause


class _Wait:
    """The times at which one wait reads, and its hints."""

    def __init__(self, notifier: Notifier | None, call_hash: str) -> None:
        self.hinted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._notifier = notifier
        self._call_hash = call_hash
        self._watches = False
        self._pause, self._longest = POLL_FIRST, POLL_LAST

    def now(self) -> float:
        """Return the time of the event loop, a moment ahead: its timers may fire a moment early."""
        return self._loop.time() + 1e-6

    async def begin_watch(self) -> bool:
        """Watch the call, unless it is watched already. Return whether the value must be read once more."""
        if self._notifier is None or self._watches:
            return False
        self._watches = True
        if await self._notifier.watch(self._call_hash, self.hinted.set):
            self._pause = self._longest = READ_EVERY
        return True

    def take_hint(self) -> None:
        """Forget the hint before a read. If the read finds no value, the hint came early: then read again soon."""
        if self.hinted.is_set():
            self.hinted.clear()
            self._pause = POLL_FIRST

    def next_read(self) -> float:
        """Return the time of the next read if no hint comes."""
        due = _next(self._pause, self.now())
        self._pause = 2 * self._pause if self._pause < POLL_LAST else self._longest
        return due

    async def until(self, when: float) -> None:
        """Wait for a hint, at most until a time of the event loop."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(when):
                await self.hinted.wait()

    def close(self) -> None:
        """End the watch."""
        if self._notifier is not None and self._watches:
            self._notifier.unwatch(self._call_hash, self.hinted.set)


async def _look(connection: Connection, call: Call, scope: DeadLetterScope | None) -> QueueStats | None:
    """Look at the dead letters of the topic. Return its statistics, if it is known."""
    if scope is None:
        return None
    stats = await scope.letters.look()
    connection.silence.observe(scope.letters.topic, stats, after=UNSERVED_AFTER)
    await _refuse_buried(connection, call, scope)
    return stats


async def _stale_in(connection: Connection, call: Call, scope: DeadLetterScope | None) -> float:
    """Return the seconds after which to look whether a call is stale; infinity if it is, after telling it."""
    silence = connection.silence
    (record,) = await connection.read([Key("pending_returns", call.call_hash)])
    pending = PendingReturns() if record is None else decode_pending(record)
    left = silence.stale_in(pending)
    if left is None:
        return silence.stale_after or math.inf  # it may be put later
    if left > 0:
        return left
    topic, root_id = ("", "") if scope is None else (scope.letters.topic, scope.root_id or "")
    silence.report_stale(topic, root_id, call.call_hash, call.task_name, pending)
    return math.inf


async def _refuse_cancelled(connection: Connection, call: Call, scope: DeadLetterScope | None) -> None:
    if scope is not None and scope.root_id is not None and await connection.is_cancelled(scope.root_id):
        raise ScheduleCancelledError(
            f"the schedule {scope.root_id} of the call {call.call_hash} of {call.task_name!r} was cancelled",
            remedy="Resume the schedule, or schedule the call again.",
        )


async def blocking_letter(
    connection: Connection, call_hash: str, letters: Callable[[str], DeadLetters]
) -> Buried | None:
    """Return the dead letter that keeps a call from its outcome: its own, or that of a call that it waits for.

    A note can be older than a redrive of its dead letter. So the dead letter counts only if it is still there.

    Raises:
        BackendError: A backend failed.
    """
    buried = await _note_of(connection, call_hash)
    if buried is None or (buried.call_hash != call_hash and await _note_of(connection, buried.call_hash) is None):
        return None
    dead_letters = letters(buried.topic)
    stats = await dead_letters.look()
    return buried if stats.dead > LOOKED_AT or dead_letters.find(buried.call_hash, None) else None


async def _note_of(connection: Connection, call_hash: str) -> Buried | None:
    """Return the note of a call; None if it has an outcome or is not stranded."""
    value, record, note = await connection.read(
        [Key("value", call_hash), Key("pending_returns", call_hash), note_key(call_hash)]
    )
    if value is not None or record is None or not is_stranded(decode_pending(record), call_hash):
        return None
    return read_note(note)


async def _refuse_blocked(connection: Connection, call: Call, letters: Callable[[str], DeadLetters]) -> None:
    buried = await blocking_letter(connection, call.call_hash, letters)
    if buried is not None:
        verb = "was" if buried.call_hash == call.call_hash else f"waits for {buried.call_hash}, which was"
        why = f"dead-lettered in delivery {buried.attempt}: {buried.reason.rstrip('.')}"
        raise BuriedError(
            f"the call {call.call_hash} of {call.task_name!r} {verb} {why}",
            remedy=f"Fix the cause, then schedule the call again, or run: brrr dead redrive {buried.topic}.",
        )


async def _refuse_buried(connection: Connection, call: Call, scope: DeadLetterScope) -> None:
    found = scope.letters.find(call.call_hash, scope.root_id)
    if found and scope.root_id is None:
        (record,) = await connection.read([Key("pending_returns", call.call_hash)])
        if record is not None and decode_pending(record).scheduled_at is not None:
            return  # it was put again since
    for letter in found:
        # A call that was scheduled again may have a value by now.
        if await connection.value(letter.call_hash) is None and await connection.value(call.call_hash) is None:
            what = (
                f"the call {call.call_hash}" if letter.call_hash == call.call_hash else "a call on behalf of the call"
            )
            raise BuriedError(
                f"{what} of {call.task_name!r} was dead-lettered in delivery {letter.attempt}: "
                f"{letter.reason.rstrip('.')}",
                remedy=f"Fix the cause, then run: brrr dead redrive {scope.letters.topic}.",
            )
