"""The bytes that workers in all languages share: the bencode records of PROTOCOL.md.

Pure functions and frozen types, and nothing about queues or stores. Whatever bytes come in, a decoder gives the record
or raises `MalformedRecordError`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn, TypeGuard

from bencode2 import BencodeDecodeError, bdecode, bencode

from brrr_core.errors import MalformedRecordError

__all__ = [
    "Call",
    "PendingReturn",
    "PendingReturns",
    "ScheduleMessage",
    "count_key",
    "decode_call",
    "decode_message",
    "decode_pending",
    "encode_call",
    "encode_message",
    "encode_pending",
]

RETURN_TAG: Final = 1
MESSAGE_TAG: Final = 2


@dataclass(frozen=True, slots=True)
class Call:
    """A task name with its encoded arguments. Its identity is its call hash alone.

    Attributes:
        task_name: The name that the handler is registered under.
        payload: The encoded arguments, opaque to all but the codec.
        call_hash: Printable US-ASCII, made by the codec, the same for the same call.
    """

    task_name: str
    payload: bytes
    call_hash: str


class ScheduleMessage(NamedTuple):
    """The body of a queue message: run (or look again at) this call, on behalf of this root."""

    root_id: str
    call_hash: str


class PendingReturn(NamedTuple):
    """The address to wake when a call completes."""

    root_id: str
    call_hash: str
    topic: str


@dataclass(frozen=True, slots=True)
class PendingReturns:
    """Who waits for a call, and whether the call is known to be on a queue.

    Attributes:
        returns: Whom to wake, sorted and without repeats.
        scheduled_at: Unix seconds, or None while nobody is sure that the call was put on a queue.
    """

    returns: tuple[PendingReturn, ...] = ()
    scheduled_at: int | None = None


def count_key(root_id: str) -> str:
    """The cache key of the counter of all messages put under `root_id` (PROTOCOL.md, Cache)."""
    return f"brrr_count/{root_id}"


def encode_message(message: ScheduleMessage) -> bytes:
    """The body of a schedule message: the list `[2, root_id, call_hash]`."""
    return bencode((MESSAGE_TAG, message.root_id, message.call_hash))


def decode_message(body: bytes) -> ScheduleMessage:
    """Read a schedule message.

    Raises:
        MalformedRecordError: The body is not a list of the tag 2, a root id and a call hash.
    """
    match _decode("schedule message", body):
        case [2, bytes(root_id), bytes(call_hash)]:
            return ScheduleMessage(
                _token("schedule message", "root id", root_id),
                _token("schedule message", "call hash", call_hash),
            )
        case other:
            _reject("schedule message", "[2, root id, call hash]", other)


def encode_call(call: Call) -> bytes:
    """The store's record of a call: the dict `{payload, task_name}`. The call hash is the record's key."""
    return bencode({"payload": call.payload, "task_name": call.task_name})


def decode_call(call_hash: str, record: bytes) -> Call:
    """Read the record of the call `call_hash`.

    Raises:
        MalformedRecordError: The record is not a dict of exactly a payload and a task name.
    """
    match _decode("call record", record):
        case {b"payload": bytes(payload), b"task_name": bytes(task_name), **rest} if not rest:
            return Call(_text("call record", "task name", task_name), payload, call_hash)
        case other:
            _reject("call record", "{payload: bytes, task_name: text}", other)


def encode_pending(pending: PendingReturns) -> bytes:
    """The store's record of who waits for a call: the dict `{returns, scheduled_at}`, `scheduled_at` left out if None."""
    returns = [(RETURN_TAG, *entry) for entry in sorted(set(pending.returns))]
    if pending.scheduled_at is None:
        return bencode({"returns": returns})
    return bencode({"returns": returns, "scheduled_at": pending.scheduled_at})


def decode_pending(record: bytes) -> PendingReturns:
    """Read a record of pending returns, in the order of PROTOCOL.md whatever order it was written in.

    Raises:
        MalformedRecordError: The record, or one of its returns, has a wrong shape.
    """
    match _decode("pending-returns record", record):
        case {b"returns": list(entries), b"scheduled_at": int(at), **rest} if not rest and _is_list(entries):
            return PendingReturns(_returns(entries), at)
        case {b"returns": list(entries), **rest} if not rest and _is_list(entries):
            return PendingReturns(_returns(entries))
        case other:
            _reject("pending-returns record", "{returns: list, scheduled_at: integer or left out}", other)


def _returns(entries: Iterable[object]) -> tuple[PendingReturn, ...]:
    return tuple(sorted({_return(entry) for entry in entries}))


def _return(entry: object) -> PendingReturn:
    match entry:
        case [1, bytes(root_id), bytes(call_hash), bytes(topic)]:
            return PendingReturn(
                _token("pending return", "root id", root_id),
                _token("pending return", "call hash", call_hash),
                _text("pending return", "topic", topic),
            )
        case other:
            _reject("pending return", "[1, root id, call hash, topic]", other)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _decode(record: str, data: bytes) -> object:
    try:
        decoded: object = bdecode(data)
    except (BencodeDecodeError, ValueError, RecursionError) as error:
        raise MalformedRecordError(
            f"a {record} of {len(data)} bytes is not bencode: {error}", remedy=_REMEDY
        ) from error
    return decoded


def _token(record: str, field: str, raw: bytes) -> str:
    token = _text(record, field, raw)
    if not (token and token.isascii() and token.isprintable()):
        raise MalformedRecordError(
            f"the {field} of a {record} is {_short(raw)}, not printable US-ASCII", remedy=_REMEDY
        )
    return token


def _text(record: str, field: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise MalformedRecordError(f"the {field} of a {record} is {_short(raw)}, not UTF-8", remedy=_REMEDY) from error


def _reject(record: str, expected: str, found: object) -> NoReturn:
    raise MalformedRecordError(f"a {record} should be {expected}, and is {_shape(found)}", remedy=_REMEDY)


def _shape(found: object) -> str:
    match found:
        case list(fields) if _is_list(fields):
            tag = fields[0] if fields else None
            return f"a list of {len(fields)} fields with the tag {_short(tag)}"
        case dict():
            return f"a dict with the keys {_short(sorted(found))}"  # pyright: ignore[reportUnknownArgumentType]
        case _:
            return f"a single {type(found).__name__}, {_short(found)}"


def _short(value: object, limit: int = 80) -> str:
    shown = repr(value)
    return shown if len(shown) <= limit else f"{shown[:limit]}…"


_REMEDY: Final = "Look for a producer on this topic or store that does not speak this version of the protocol."
