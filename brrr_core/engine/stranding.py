"""Strand calls: remove the mark from a call that was dead-lettered, and from every call that waits for it.

A stranded call has a pending record without a mark and with a return of the call to itself, under the root for which it
was dead-lettered. That root does not put the call again, so no call is retried forever. Any other root puts it again.
So scheduling the workflow again recovers it, from the top down to the dead-lettered call.

A separate note names the dead letter, for information only: the pending record decides. A put or an outcome ends the
stranding, and removes the note.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from brrr_core.backend.contracts import Key, Swap
from brrr_core.engine.operations import Operations
from brrr_core.engine.roots import DROPPED, RETRIED, SETTLING
from brrr_core.errors import MalformedRecordError
from brrr_core.safe_text import first_line
from brrr_core.wire import (
    Buried,
    PendingReturn,
    PendingReturns,
    decode_buried,
    decode_pending,
    encode_buried,
    encode_pending,
)

__all__ = ["forget", "given_up", "is_stranded", "note_key", "note_of", "read_note", "revived", "strand"]

STRAND_LIMIT: Final = 10_000
"""The most calls that one dead letter strands. It bounds the work for a huge call graph."""


def note_of(buried: Buried) -> bytes:
    """Return the note of a dead letter, with the first line of its reason."""
    return encode_buried(buried._replace(reason=first_line(buried.reason)))


def read_note(note: bytes | None) -> Buried | None:
    """Read a note; None if there is none, or if it has a wrong shape."""
    try:
        return None if note is None else decode_buried(note)
    except MalformedRecordError:
        return None


def note_key(call_hash: str) -> Key:
    """Return the key of the note of a call."""
    return Key("value", f"brrr.buried/{call_hash}")


def given_up(pending: PendingReturns, call_hash: str) -> list[PendingReturn]:
    """Return the returns of a call to itself: the roots that gave it up, or if it has a mark, the redrives that put it.

    The notes of a retry and of a dropped message are among them. The mark of a client that is settling the call is not.
    """
    return [e for e in pending.returns if e.call_hash == call_hash and not e.root_id.startswith(SETTLING)]


def is_stranded(pending: PendingReturns, call_hash: str) -> bool:
    """Whether the call is stranded: by the pending record, neither it nor a call that it waits for has a message."""
    return pending.scheduled_at is None and any(
        not entry.root_id.startswith((RETRIED, DROPPED)) for entry in given_up(pending, call_hash)
    )


def revived(pending: PendingReturns, call_hash: str) -> tuple[PendingReturn, ...]:
    """Return the returns in the pending record of a call, without those that `given_up` returns."""
    lost = given_up(pending, call_hash)
    return tuple(entry for entry in pending.returns if entry not in lost)


async def forget(operations: Operations, call_hashes: Sequence[str]) -> None:
    """Remove the notes of calls that are no longer stranded."""
    await operations.delete([note_key(call_hash) for call_hash in call_hashes])


async def strand(
    operations: Operations, entries: Iterable[PendingReturn], note: bytes | None, *, alone: bool = False
) -> list[str]:
    """Strand calls, and all their parents that are registered. Return the calls whose pending records were created.

    Repeating it is safe. If a call continues at the same time, it is put at worst once more than needed.

    Args:
        operations: The operations.
        entries: The calls, each with the root for which it is dead-lettered.
        note: The note to write for each; None if it is not known.
        alone: Strand these calls only, and only those that have no mark.
    """
    left, seen, created = dict.fromkeys(entries), set[PendingReturn](), list[str]()
    while left and len(seen) <= STRAND_LIMIT:
        seen.update(left)
        by_call: dict[str, list[PendingReturn]] = {}
        for entry in left:
            by_call.setdefault(entry.call_hash, []).append(entry)
        if note is not None:
            await operations.write([(note_key(call_hash), note) for call_hash in by_call])
        keys = [Key("pending_returns", call_hash) for call_hash in by_call]
        parents: list[PendingReturn] = []
        swaps: list[tuple[str, Swap]] = []
        for key, record in zip(keys, await operations.read(keys), strict=True):
            try:
                pending = PendingReturns() if record is None else decode_pending(record)
            except MalformedRecordError:
                continue  # no parent can register there, or be woken
            if alone and pending.scheduled_at is not None:
                continue
            returns = tuple(sorted({*pending.returns, *by_call[key.call_hash]}))
            if (returns, None) != (pending.returns, pending.scheduled_at):
                swaps.append((key.call_hash, Swap(key, record, encode_pending(PendingReturns(returns)))))
            parents += [entry for entry in pending.returns if entry.call_hash != key.call_hash]
        swapped = await operations.swap([swap for _, swap in swaps])
        created += [name for (name, swap), done in zip(swaps, swapped, strict=True) if done and swap.expected is None]
        lost = [call_hash for (call_hash, _), done in zip(swaps, swapped, strict=True) if not done]
        left = dict.fromkeys(entry for call_hash in lost for entry in by_call[call_hash])
        if not alone:
            left.update((parent, None) for parent in parents if parent not in seen)
    return created
