"""Dead letters with their calls."""

from collections.abc import Sequence
from typing import NamedTuple

from brrr_core.backend.contracts import DeadLetter, Key, Queue, Store
from brrr_core.engine.waiting import message_of
from brrr_core.errors import MalformedRecordError
from brrr_core.wire import Call, ScheduleMessage, decode_call

__all__ = ["Letter", "read_letters"]


class Letter(NamedTuple):
    """A dead letter, its message (None if the body is invalid) and its call (None if the record cannot be read)."""

    dead: DeadLetter
    message: ScheduleMessage | None
    call: Call | None


async def read_letters(queue: Queue, store: Store | None, topic: str, *, limit: int) -> list[Letter]:
    """Read up to `limit` dead letters of a topic, oldest first, with the calls that the store has.

    Raises:
        BackendError: The queue or the store failed.
    """
    letters = [Letter(dead, message_of(dead), None) for dead in await queue.dead(topic, limit=limit)]
    if store is None:
        return letters
    hashes = list(dict.fromkeys(letter.message.call_hash for letter in letters if letter.message is not None))
    calls = await _read_calls(store, hashes)
    return [letter._replace(call=calls.get(letter.message.call_hash)) if letter.message else letter
            for letter in letters]  # fmt: skip


async def _read_calls(store: Store, hashes: Sequence[str]) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    records = await store.read([Key("call", call_hash) for call_hash in hashes])
    for call_hash, record in zip(hashes, records, strict=True):
        if record is None:
            continue
        try:
            calls[call_hash] = decode_call(call_hash, record)
        except MalformedRecordError:
            continue
    return calls
