"""Retry a failed call: delete its failure, and those of the calls that made it fail.

Only a retry changes an outcome, from a failure to none. The program that retries can end between two steps. Repeating
the retry completes it: the failure of the call itself, which lists its causes, is deleted last.
"""

from collections.abc import Awaitable, Callable, Sequence

from brrr_core.backend.contracts import Key, Swap
from brrr_core.engine.control import Control
from brrr_core.engine.letters import message_in
from brrr_core.engine.operations import Operations, Put
from brrr_core.engine.returning import Returner
from brrr_core.engine.roots import retry_root_id
from brrr_core.engine.starting import Starter, StartRequest
from brrr_core.engine.stranding import forget, revived
from brrr_core.wire import (
    FAILURE_PREFIX,
    Call,
    CallState,
    PendingReturn,
    PendingReturns,
    ScheduleMessage,
    decode_failure,
    decode_pending,
    encode_message,
    encode_pending,
)

__all__ = ["Retrier"]


class Retrier:
    """Retries failed calls through one connection."""

    def __init__(self, operations: Operations, control: Control, starter: Starter, returner: Returner) -> None:
        self._operations = operations
        self._returner = returner
        self._control = control
        self._starter = starter

    async def retry(self, call: Call, topic: str) -> str | None:
        """Delete the failures of a call and of its causes, and put the call.

        Returns:
            The root id of the new schedule; None if the call has a value, is scheduled, or was never scheduled.

        Raises:
            BackendError: A backend failed. Repeating the retry completes it.
        """
        value, record = await self._operations.read([Key("value", call.call_hash), Key("call", call.call_hash)])
        if value is not None and not await self._take_back([call.call_hash], topic):
            return None
        if value is None and record is None:
            return None
        # Without a failure, an earlier retry may have ended before it had put the call.
        return (await self._starter.start(StartRequest(call, topic))).root_id

    async def redrive(self, topic: str, *, limit: int) -> int:
        """Put dead letters back on their topic, oldest first, and delete the failures of their calls.

        Returns:
            The number of dead letters that were put back.

        Raises:
            BackendError: A backend failed. Repeating it is safe.
        """
        messages = [message_in(letter.body) for letter in await self._operations.queue.dead(topic, limit=limit)]
        return await self.put_back(topic, messages, lambda: self._operations.queue.redrive(topic, limit=limit))

    async def put_back(
        self, topic: str, messages: Sequence[ScheduleMessage | None], put: Callable[[], Awaitable[int]]
    ) -> int:
        """Delete the failures of the calls of dead letters, and put their messages again.

        If others take some of the dead letters at the same time, each call whose failure was deleted gets its own
        message, perhaps a second one.

        Args:
            topic: The topic.
            messages: The messages of the dead letters; None for one that is not valid.
            put: Redrives the dead letters, and returns their number.

        Returns:
            The number of messages that were put again, at most that of the dead letters.

        Raises:
            BackendError: A backend failed. Repeating it is safe.
        """
        valid = [message for message in messages if message is not None]
        notes = await self._take_back(list(dict.fromkeys(message.call_hash for message in valid)), topic)
        count = await put()
        if count < len(messages):
            again = [Put(topic, encode_message(message)) for message in valid if message.call_hash in notes]
            await self._operations.put(again)
            count = min(len(messages), count + len(again))
        for note in notes.values():
            await self._mark(note)
        return count

    async def _take_back(self, call_hashes: Sequence[str], topic: str) -> dict[str, PendingReturn]:
        """Delete the failures of calls and of their causes. Return the notes of those of the calls that had a failure.

        A slow program may have put such a call before it failed, and mark it only now. Such a mark would have no
        message. So the pending record of each call gets a note before its failure is deleted: a return of the call to
        itself, under a new root id. Then the program loses its swap, finds the note, and puts the call again. A put
        removes the note.
        """
        failures = await self._failures(call_hashes)
        new = failures
        while new:
            causes = [cause.call_hash for record in new.values() for cause in decode_failure(record).causes]
            new = await self._failures([cause for cause in causes if cause not in failures])
            failures.update(new)
        if failures:
            await self._control.mark()
        notes: dict[str, PendingReturn] = {}
        for call_hash, failure in reversed(failures.items()):  # the causes first
            await self._control.update(call_hash, lambda state: CallState(retries=state.retries + 1))
            await forget(self._operations, [call_hash])
            notes[call_hash] = note = PendingReturn(retry_root_id(), call_hash, topic)
            await self._note(note)
            (deleted,) = await self._operations.swap([Swap(Key("value", call_hash), failure, None)])
            # A worker that wakes the parents may have deleted the record, and the call may have an outcome again.
            if not deleted or await self._note(note):
                await self._returner.clear_ended([call_hash], created=True)
        return {call_hash: notes[call_hash] for call_hash in call_hashes if call_hash in notes}

    async def _failures(self, call_hashes: Sequence[str]) -> dict[str, bytes]:
        hashes = list(dict.fromkeys(call_hashes))
        records = await self._operations.read([Key("value", call_hash) for call_hash in hashes])
        return {
            call_hash: record
            for call_hash, record in zip(hashes, records, strict=True)
            if record is not None and record.startswith(FAILURE_PREFIX)
        }

    async def _note(self, note: PendingReturn) -> bool:
        """Leave a note in the pending record of a call, in place of its mark and older notes. Its parents stay.

        Return whether the note was not there.
        """

        def noted(pending: PendingReturns) -> PendingReturns:
            return PendingReturns(tuple(sorted((*revived(pending, note.call_hash), note))))

        return await self._change(note.call_hash, noted)

    async def _mark(self, note: PendingReturn) -> None:
        """Mark a call that was put, if its note is still there. If not, another program has put it since."""
        now = int(self._operations.clock())

        def marked(pending: PendingReturns) -> PendingReturns:
            if note not in pending.returns:
                return pending
            return PendingReturns(tuple(each for each in pending.returns if each != note), now)

        await self._change(note.call_hash, marked)

    async def _change(self, call_hash: str, change: Callable[[PendingReturns], PendingReturns]) -> bool:
        """Change the pending record of a call. Return whether it is new. `change` may be called several times."""
        key = Key("pending_returns", call_hash)
        while True:
            (record,) = await self._operations.read([key])
            before = PendingReturns() if record is None else decode_pending(record)
            after = change(before)
            if before == after:
                return False
            (done,) = await self._operations.swap([Swap(key, record, encode_pending(after))])
            if done:
                return True
