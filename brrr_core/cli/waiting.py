"""Waits for the value of a call, and notices when it is given up instead."""

import asyncio
import time
from typing import Final

from brrr_core.backend.contracts import DeadLetter, Queue
from brrr_core.cli.letters import LOOKED_AT, message_of
from brrr_core.cli.progress import Progress
from brrr_core.engine.connection import Connection
from brrr_core.errors import BuriedError, ResultTimeoutError
from brrr_core.wire import Call

__all__ = ["Watch", "wait_for_value"]

POLL_FIRST: Final = 0.005
POLL_LAST: Final = 0.5
"""Seconds between two looks for a value: the first, and the most after doubling. From then on the topic is watched."""


class Watch:
    """Looks for a call among the dead letters of its topic.

    What lay there for the same call before it was scheduled this time does not count.

    Args:
        queue: The queue.
        topic: The topic.
        call: The call.
    """

    def __init__(self, queue: Queue, topic: str, call: Call) -> None:
        self.queue = queue
        self.topic = topic
        self.root_id: str | None = None
        """The root of the schedule, once it is known: all that was given up on its behalf counts."""
        self._call = call
        self._earlier: set[tuple[bytes, float]] = set()

    async def begin(self) -> None:
        """Look at what lies there now. Call it before the call is scheduled."""
        letters = await self._letters((await self.queue.stats(self.topic)).dead)
        self._earlier = {(letter.body, letter.buried_at) for letter in letters}

    async def find(self, dead: int) -> DeadLetter | None:
        """The dead letter by which the call will have no value, if there is one.

        Args:
            dead: How many there are, as the queue's figures say.
        """
        for letter in await self._letters(dead):
            if (letter.body, letter.buried_at) not in self._earlier:
                return letter
        return None

    async def _letters(self, dead: int) -> list[DeadLetter]:
        if dead == 0:
            return []
        letters = await self.queue.dead(self.topic, limit=min(dead, LOOKED_AT))
        return [letter for letter in letters if self._is_ours(letter)]

    def _is_ours(self, letter: DeadLetter) -> bool:
        message = message_of(letter)
        return message is not None and (
            message.call_hash == self._call.call_hash or (self.root_id is not None and message.root_id == self.root_id)
        )


async def wait_for_value(
    connection: Connection, call: Call, *, timeout: float | None, watch: Watch | None, progress: Progress
) -> bytes:
    """The encoded value of a call, once it is there.

    Args:
        connection: Where it is read.
        call: The call.
        timeout: The most seconds to wait; None waits for ever.
        watch: Looks for it among dead letters; None where its topic is not known.
        progress: Shown how it goes.

    Raises:
        ResultTimeoutError: There was no value in time.
        BuriedError: The call, or one that it waits for, was given up.
        BackendError: A backend failed.
    """
    begin = time.monotonic()
    pause = POLL_FIRST
    while True:
        value = await connection.value(call.call_hash)
        if value is not None:
            return value
        elapsed = time.monotonic() - begin
        left = pause if timeout is None else timeout - elapsed
        if left <= 0:
            raise ResultTimeoutError(
                f"the call {call.call_hash} of {call.task_name!r} has no value after {elapsed:.1f} seconds",
                remedy="Wait longer, check that workers run on its topic, or look at its dead letters: brrr dead list.",
            )
        if pause == POLL_LAST:
            letter = await _look_around(watch, elapsed, progress)
            if letter is not None and await connection.value(call.call_hash) is None:
                raise _buried(call, letter)
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 2, POLL_LAST)


async def _look_around(watch: Watch | None, elapsed: float, progress: Progress) -> DeadLetter | None:
    if watch is None:
        progress.show(elapsed, None)
        return None
    stats = await watch.queue.stats(watch.topic)
    progress.show(elapsed, stats)
    return await watch.find(stats.dead)


def _buried(call: Call, letter: DeadLetter) -> BuriedError:
    message = message_of(letter)
    itself = message is not None and message.call_hash == call.call_hash
    reason = letter.reason.partition("\n")[0]
    what = f"the call {call.call_hash}" if itself else "a call on behalf of the call"
    return BuriedError(
        f"{what} of {call.task_name!r} was given up in attempt {letter.attempt}: {reason}",
        remedy=f"Mend the cause, then put it back: brrr dead redrive {letter.topic}.",
    )
