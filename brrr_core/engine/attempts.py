"""Count attempts and releases, so that a delivery is not mistaken for an attempt.

A queue counts deliveries. It cannot tell whether a delivery ended because the handler raised, because the worker
released the message, or because the worker died. So workers count attempts and releases in the cache, by root id and
call hash. A delivery that neither counter explains ended in a crash or with a lost lease. A call that succeeds in its
first delivery touches no counter.

A note names the last failed attempt of a call that runs again, for clients only. It is removed with the counters.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from brrr_core.backend.contracts import Delivery, Key
from brrr_core.engine.calls import HeldDelivery
from brrr_core.engine.operations import Operations
from brrr_core.errors import MalformedRecordError
from brrr_core.safe_text import first_line
from brrr_core.wire import FailedAttempt, decode_failed_attempt, decode_message, encode_failed_attempt

__all__ = ["Attempts", "attempt_key", "read_failed_attempt"]

FAILED: Final = "brrr_failed"
RELEASED: Final = "brrr_excused"
ALONE: Final = "brrr_alone"
"""Prefixes of the counters' keys. Workers of other SDKs neither read nor write these counters."""


def attempt_key(call_hash: str) -> Key:
    """Return the key of the note of a call's last failed attempt."""
    return Key("value", f"brrr.attempt/{call_hash}")


def read_failed_attempt(note: bytes | None) -> FailedAttempt | None:
    """Read a note; None if there is none, or if it has a wrong shape."""
    try:
        return None if note is None else decode_failed_attempt(note)
    except MalformedRecordError:
        return None


class Attempts:
    """The attempt counters of all messages of a connection."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def load(self, held: HeldDelivery) -> None:
        """Read the counters, if there were earlier deliveries."""
        if held.delivery.attempt > 1:
            await self._count(held, 0, 0, 0)

    async def count_failure(self, held: HeldDelivery) -> int:
        """Count a failed attempt, and return the number of failed attempts.

        A handler that raised did not crash its earlier workers, so this also clears the suspicion.
        """
        await self._count(held, 1, held.unexplained, -held.unfinished_alone)
        return held.failed

    async def note(self, held: HeldDelivery, attempt: int, reason: str, retry_in: float) -> None:
        """Write a note that an attempt failed.

        Args:
            held: The delivery.
            attempt: The number of the attempt.
            reason: Why it failed. Its first line is kept.
            retry_in: Seconds until the next attempt.
        """
        topic, now = held.delivery.topic, self._operations.clock()
        call_hash = decode_message(held.delivery.body).call_hash
        failed = FailedAttempt(topic, attempt, int(now), int(now + retry_in), first_line(reason))
        await self._operations.write([(attempt_key(call_hash), encode_failed_attempt(failed))])
        (value,) = await self._operations.read([Key("value", call_hash)])
        if value is not None:  # another worker completed the call, and perhaps no later delivery removes the note
            await self._operations.delete([attempt_key(call_hash)])

    async def begin_alone(self, held: HeldDelivery) -> int:
        """Count an isolated run that is about to begin, and return the number of earlier ones that never ended.

        The count stays if the worker process dies. An increment that raised may have happened, so the runs that this
        delivery itself began are not counted as earlier ones.
        """
        held.begun_alone += 1
        (held.unfinished_alone,) = await self._operations.count([(_keys(held.delivery)[2], 1)])
        return held.unfinished_alone - held.begun_alone

    async def count_releases(self, held_deliveries: Sequence[HeldDelivery]) -> None:
        """Count deliveries that the worker releases. Messages that ran alone are no longer suspicious."""
        amounts: list[tuple[str, int]] = []
        for held in held_deliveries:
            with suppress(MalformedRecordError):  # such a message is dead-lettered in its first delivery anyway
                _, released, alone = _keys(held.delivery)
                amounts.append((released, 1 + (held.unexplained if held.begun_alone else 0)))
                if held.begun_alone:
                    amounts.append((alone, -held.unfinished_alone))
        await self._operations.count(amounts)

    async def reset(self, held: HeldDelivery, *, failures: bool = True) -> None:
        """Reset the counters to 0 before the message is settled, and remove the note of the last failed attempt.

        Args:
            held: The delivery.
            failures: Whether to reset the failed attempts, too, and to remove the note. Keep them for a message that is
                put again: the queue counts its deliveries from 1.
        """
        if held.counted:
            if failures and held.failed:
                await self._operations.delete([attempt_key(decode_message(held.delivery.body).call_hash)])
            kept = 0 if failures else held.failed
            await self._count(held, kept - held.failed, -held.released - kept, -held.unfinished_alone)

    async def _count(self, held: HeldDelivery, failed: int, released: int, alone: int) -> None:
        amounts = zip(_keys(held.delivery), (failed, released, alone), strict=True)
        held.failed, held.released, held.unfinished_alone = await self._operations.count(list(amounts))


def _keys(delivery: Delivery) -> tuple[str, str, str]:
    message = decode_message(delivery.body)
    identity = f"{message.root_id}/{message.call_hash}"
    return f"{FAILED}/{identity}", f"{RELEASED}/{identity}", f"{ALONE}/{identity}"
