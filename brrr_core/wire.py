"""The bencode records that workers in all languages share. Implements `docs/reference/protocol.md`.

This module has pure functions and frozen types only; it knows no queue or store. For any bytes, a decoder returns the
record or raises `MalformedRecordError`. An encoder raises the same error for a record that no decoder accepts. Root ids
and call hashes are non-empty, printable US-ASCII; other text is UTF-8. `scheduled_at` can be any integer, because brrr
does not compute with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from math import ceil
from operator import lt
from typing import Final, NamedTuple, NoReturn, TypeAlias

from bencode2 import bdecode, bencode

from brrr_core.errors import Cause, MalformedRecordError

__all__ = [
    "EXPIRED",
    "FAILURE_PREFIX",
    "NO_STATE",
    "Buried",
    "Call",
    "CallState",
    "Failure",
    "PendingReturn",
    "PendingReturns",
    "ScheduleMessage",
    "count_key",
    "decode_buried",
    "decode_call",
    "decode_due",
    "decode_failure",
    "decode_message",
    "decode_pending",
    "decode_state",
    "encode_buried",
    "encode_call",
    "encode_due",
    "encode_failure",
    "encode_message",
    "encode_pending",
    "encode_state",
]

RETURN_TAG: Final = 1
MESSAGE_TAG: Final = 2

FAILURE_PREFIX: Final = b"\xc1brrr-failure:"
"""The first bytes of a value record that holds a failure. Valid UTF-8, JSON and msgpack never begin with 0xC1."""

EXPIRED: Final = b"\xc1brrr-expired"
"""The outcome of a wait that ended at its deadline."""

Bencoded: TypeAlias = "int | bytes | list[Bencoded] | dict[bytes, Bencoded]"
"""A decoded bencode value."""


class Call(NamedTuple):
    """A task name with its encoded arguments. Only the call hash identifies the call.

    Attributes:
        task_name: The name under which the handler is registered.
        payload: The encoded arguments. Only the codec can read them.
        call_hash: Printable US-ASCII, made by the codec. Equal calls have equal hashes.
    """

    task_name: str
    payload: bytes
    call_hash: str


class ScheduleMessage(NamedTuple):
    """The body of a queue message: run this call, or check it again, for this root id."""

    root_id: str
    call_hash: str


class PendingReturn(NamedTuple):
    """The address of a parent to wake when a call completes."""

    root_id: str
    call_hash: str
    topic: str


class PendingReturns(NamedTuple):
    """The parents that wait for a call, and the time at which the call was scheduled.

    Attributes:
        returns: The parents to wake, sorted and without duplicates.
        scheduled_at: Unix seconds, or None until a worker has confirmed that a message for the call was put.
    """

    returns: tuple[PendingReturn, ...] = ()
    scheduled_at: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """The outcome of a call that failed for good. It takes the place of its value.

    Attributes:
        error_type: The name of the class of the handler's error.
        message: The message of the error.
        traceback: The traceback of the error.
        details: A value for callers, encoded by the codec; None without one.
        exhausted: Whether the attempts of the call were used up. Then its message is dead-lettered as well.
        causes: The failed calls that made this one fail, the nearest first.
    """

    error_type: str
    message: str
    traceback: str = ""
    details: bytes | None = None
    exhausted: bool = False
    causes: tuple[Cause, ...] = ()


@dataclass(frozen=True, slots=True)
class CallState:
    """The state of a call that its next runs must know: a request to cancel it, and failures that it has seen.

    Attributes:
        cancel: Whether someone asked to cancel the call.
        cancelled_at: The call hashes at which the handler was told, so that every re-run is told in the same places.
        observed: The failures of children that the handler has seen, by call hash.
        retries: How often the call was retried after it had failed. Each retry begins new waits.
    """

    cancel: bool = False
    cancelled_at: tuple[str, ...] = ()
    observed: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    retries: int = 0


NO_STATE: Final = CallState()
"""The state of a call that has no record of it."""


class Buried(NamedTuple):
    """A dead letter that keeps calls from their outcomes: its call, topic, attempt, time in unix seconds and reason."""

    call_hash: str
    topic: str
    attempt: int
    at: int
    reason: str


def count_key(root_id: str) -> str:
    """Return the cache key that counts all messages of `root_id` (`docs/reference/protocol.md`, Cache)."""
    return f"brrr_count/{root_id}"


def encode_message(message: ScheduleMessage) -> bytes:
    """Return the body of a schedule message: the list `[2, root_id, call_hash]`.

    Raises:
        MalformedRecordError: The root id or the call hash is not printable US-ASCII.
    """
    root_id, call_hash = message
    _check_tokens(root_id, call_hash)
    return bencode((MESSAGE_TAG, root_id, call_hash))


def decode_message(body: bytes) -> ScheduleMessage:
    """Read a schedule message.

    Raises:
        MalformedRecordError: The body is not the list of tag 2, a root id and a call hash.
    """
    fields = _decode("schedule message", body)
    if isinstance(fields, list) and len(fields) == 3:
        tag, root_id, call_hash = fields
        if tag == MESSAGE_TAG and isinstance(root_id, bytes) and isinstance(call_hash, bytes):
            return ScheduleMessage(*_tokens(root_id, call_hash))
    _reject("schedule message", "[2, root id, call hash]", fields)


def encode_call(call: Call) -> bytes:
    """Return the call record: the dict `{payload, task_name}`. The call hash is in the key of the record.

    Raises:
        MalformedRecordError: The task name cannot be encoded as UTF-8.
    """
    return _encode("call record", {"payload": call.payload, "task_name": call.task_name})


def decode_call(call_hash: str, record: bytes) -> Call:
    """Read the record of the call `call_hash`.

    Raises:
        MalformedRecordError: The record is not a dict with exactly a payload and a task name.
    """
    fields = _decode("call record", record)
    if isinstance(fields, dict) and len(fields) == 2:
        payload, task_name = fields.get(b"payload"), fields.get(b"task_name")
        if isinstance(payload, bytes) and isinstance(task_name, bytes):
            return Call(_text("task name", task_name), payload, call_hash)
    _reject("call record", "{payload: bytes, task_name: text}", fields)


def encode_failure(failure: Failure) -> bytes:
    """Return the value record of a failure: `FAILURE_PREFIX` and the dict `{message, traceback, type}`.

    The dict also has `causes` (a list of `[task name, call hash, type, message]`) if there are any, `details` unless it
    is None, and `exhausted` (1) if it is true.

    Raises:
        MalformedRecordError: A text cannot be encoded as UTF-8.
    """
    fields: dict[str, object] = {
        "message": failure.message,
        "traceback": failure.traceback,
        "type": failure.error_type,
    }
    if failure.causes:
        fields["causes"] = [list(cause) for cause in failure.causes]
    if failure.details is not None:
        fields["details"] = failure.details
    if failure.exhausted:
        fields["exhausted"] = 1
    return FAILURE_PREFIX + _encode("failure", fields)


def decode_failure(record: bytes) -> Failure:
    """Read the value record of a failure, which begins with `FAILURE_PREFIX`. Ignore unknown fields.

    Raises:
        MalformedRecordError: The record has a wrong shape.
    """
    fields = _decode("failure", _checked("failure", record)[len(FAILURE_PREFIX) :])
    if isinstance(fields, dict):
        kind, message, trace = (fields.get(name) for name in (b"type", b"message", b"traceback"))
        details, exhausted, causes = fields.get(b"details"), fields.get(b"exhausted", 0), fields.get(b"causes", [])
        if (
            isinstance(kind, bytes)
            and isinstance(message, bytes)
            and isinstance(trace, bytes)
            and isinstance(details, bytes | None)
            and isinstance(exhausted, int)
            and isinstance(causes, list)
        ):
            return Failure(
                _text("type", kind),
                _text("message", message),
                _text("traceback", trace),
                details,
                exhausted=bool(exhausted),
                causes=tuple(map(_cause, causes)),
            )
    _reject("failure", "{message: text, traceback: text, type: text, …}", fields)


def encode_due(due: float) -> bytes:
    """Return the record of the time at which a wait is due: unix milliseconds in decimal."""
    return str(ceil(due * 1000)).encode()


def decode_due(record: bytes) -> float:
    """Read the time at which a wait is due, in unix seconds.

    Raises:
        MalformedRecordError: The record is not a number.
    """
    if not record.isdigit() or len(record) > 15:
        _reject("due time", "unix milliseconds in decimal", record)
    return int(record) / 1000


def encode_buried(buried: Buried) -> bytes:
    """Return the note of a dead letter: the dict `{at, attempt, call, reason, topic}`."""
    call_hash, topic, attempt, at, reason = buried
    fields = {"at": at, "attempt": attempt, "call": call_hash, "reason": reason, "topic": topic}
    return _encode("note of a dead letter", fields)


def decode_buried(record: bytes) -> Buried:
    """Read the note of a dead letter.

    Raises:
        MalformedRecordError: The record has a wrong shape.
    """
    match _decode("note of a dead letter", record):
        case {
            b"at": int(at),
            b"attempt": int(attempt),
            b"call": bytes(call),
            b"reason": bytes(why),
            b"topic": bytes(on),
        }:
            return Buried(_token("call hash", call), _text("topic", on), attempt, at, _text("reason", why))
        case other:
            _reject("note of a dead letter", "{at, attempt, call, reason, topic}", other)


def encode_pending(pending: PendingReturns) -> bytes:
    """Return the pending record: the dict `{returns, scheduled_at}`, without `scheduled_at` if it is None.

    Raises:
        MalformedRecordError: A root id or call hash is not printable US-ASCII, a topic cannot be encoded as UTF-8,
            or `scheduled_at` is not an integer.
    """
    returns: list[tuple[int, str, str, str]] = []
    for root_id, call_hash, topic in _in_order(pending.returns):
        _check_tokens(root_id, call_hash)
        returns.append((RETURN_TAG, root_id, call_hash, topic))
    at = pending.scheduled_at
    if at is None:
        return _encode("pending-returns record", {"returns": returns})
    if type(at) is not int:  # a bool would be written as 1 or 0
        raise MalformedRecordError(f"scheduled_at is a {type(at).__name__}", remedy="Pass whole unix seconds, or None.")
    return _encode("pending-returns record", {"returns": returns, "scheduled_at": at})


def encode_state(state: CallState) -> bytes:
    """Return the record of a call's state: the dict `{cancel, cancelled_at, observed, retries}`, without empty fields.

    Raises:
        MalformedRecordError: A call hash cannot be encoded as UTF-8.
    """
    fields: dict[str, object] = {}
    if state.cancel:
        fields["cancel"] = 1
    if state.cancelled_at:
        fields["cancelled_at"] = list(state.cancelled_at)
    if state.observed:
        fields["observed"] = dict(sorted(state.observed.items()))
    if state.retries:
        fields["retries"] = state.retries
    return _encode("call state", fields)


def decode_state(record: bytes | None) -> CallState:
    """Read the record of a call's state. Ignore unknown fields. Without a record, return `NO_STATE`.

    Raises:
        MalformedRecordError: The record has a wrong shape.
    """
    if record is None:
        return NO_STATE
    fields = _decode("call state", record)
    if isinstance(fields, dict):
        cancel, retries = fields.get(b"cancel", 0), fields.get(b"retries", 0)
        places, observed = fields.get(b"cancelled_at", []), fields.get(b"observed", {})
        if (
            isinstance(cancel, int)
            and isinstance(retries, int)
            and isinstance(places, list)
            and isinstance(observed, dict)
        ):
            return CallState(
                bool(cancel),
                tuple(map(_place, places)),
                {_token("call hash", child): _bytes_of(failure) for child, failure in observed.items()},
                retries,
            )
    _reject("call state", "{cancel, cancelled_at, observed, retries}", fields)


def decode_pending(record: bytes) -> PendingReturns:
    """Read a pending record. Sort its returns in the protocol's order if the writer did not.

    Raises:
        MalformedRecordError: The record or one of its returns has a wrong shape.
    """
    return _pending(_checked("pending-returns record", record))


@lru_cache(maxsize=8)  # parents that find a full record read it repeatedly, and it holds a thousand returns
def _pending(record: bytes) -> PendingReturns:
    fields = _decode("pending-returns record", record)
    if isinstance(fields, dict):
        entries, scheduled_at = fields.get(b"returns"), fields.get(b"scheduled_at")
        if (
            isinstance(entries, list)
            and (scheduled_at is None or isinstance(scheduled_at, int))
            and len(fields) == (1 if scheduled_at is None else 2)
        ):
            return PendingReturns(_in_order(tuple(map(_return, entries))), scheduled_at)
    _reject("pending-returns record", "{returns: list, scheduled_at: integer or left out}", fields)


def _return(entry: Bencoded) -> PendingReturn:
    if isinstance(entry, list) and len(entry) == 4:
        tag, root_id, call_hash, topic = entry
        if (
            tag == RETURN_TAG
            and isinstance(root_id, bytes)
            and isinstance(call_hash, bytes)
            and isinstance(topic, bytes)
        ):
            return PendingReturn(*_tokens(root_id, call_hash), _text("topic", topic))
    _reject("pending return", "[1, root id, call hash, topic]", entry)


def _cause(entry: Bencoded) -> Cause:
    match entry:
        case [bytes() as task_name, bytes() as call_hash, bytes() as kind, bytes() as message]:
            return Cause(
                _text("task name", task_name),
                _token("call hash", call_hash),
                _text("type", kind),
                _text("message", message),
            )
        case other:
            _reject("cause of a failure", "[task name, call hash, type, message]", other)


def _place(entry: Bencoded) -> str:
    return _token("call hash", _bytes_of(entry))


def _bytes_of(entry: Bencoded) -> bytes:
    if not isinstance(entry, bytes):
        _reject("field of a call state", "bytes", entry)
    return entry


def _in_order(returns: tuple[PendingReturn, ...]) -> tuple[PendingReturn, ...]:
    # Correct writers sort their records, and checking the order is cheaper than sorting again.
    if len(returns) < 2 or all(map(lt, returns, returns[1:])):
        return returns
    return tuple(sorted(set(returns)))


def _encode(record: str, value: object) -> bytes:
    try:
        return bencode(value)
    except (ValueError, TypeError) as error:
        raise MalformedRecordError(
            f"a {record} cannot be written: {error}",
            remedy="Use only text without lone surrogates, bytes and integers.",
        ) from error


def _checked(record: str, data: bytes) -> bytes:
    if not isinstance(data, bytes):  # pyright: ignore[reportUnnecessaryIsInstance] - clients may return any type
        raise MalformedRecordError(f"a {record} is a {type(data).__name__}, not bytes", remedy="Pass bytes.")
    return data


def _decode(record: str, data: bytes) -> Bencoded:
    try:
        decoded: Bencoded = bdecode(data if type(data) is bytes else _checked(record, data))
    except (ValueError, RecursionError) as error:
        raise MalformedRecordError(
            f"a {record} of {len(data)} bytes is not bencode: {error}", remedy=_REMEDY
        ) from error
    return decoded


def _check_tokens(root_id: str, call_hash: str) -> None:
    # One look at both, because every message has them.
    both = root_id + call_hash
    if not (root_id and call_hash and both.isascii() and both.isprintable()):
        _check_token("root id", root_id)
        _check_token("call hash", call_hash)


def _check_token(field: str, token: str) -> None:
    if not (token and token.isascii() and token.isprintable()):
        raise MalformedRecordError(
            f"the {field} {_short(token)} is not printable US-ASCII",
            remedy="Use a token of printable US-ASCII, at least one character long.",
        )


def _tokens(root_id: bytes, call_hash: bytes) -> tuple[str, str]:
    both = root_id + call_hash
    if root_id and call_hash and both.isascii():
        text = both.decode()
        if text.isprintable():
            end = len(root_id)
            return text[:end], text[end:]
    return _token("root id", root_id), _token("call hash", call_hash)


def _token(field: str, raw: bytes) -> str:
    token = raw.decode() if raw.isascii() else ""
    if not (token and token.isprintable()):
        raise MalformedRecordError(f"the {field} {_short(raw)} is not printable US-ASCII", remedy=_REMEDY)
    return token


def _text(field: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise MalformedRecordError(f"the {field} {_short(raw)} is not UTF-8", remedy=_REMEDY) from error


def _reject(record: str, expected: str, found: Bencoded) -> NoReturn:
    match found:
        case []:
            shape = "an empty list"
        case [tag, *_]:
            shape = f"a list of {len(found)} fields with the tag {_short(tag)}"
        case dict():
            shape = f"a dict of {len(found)} fields: {', '.join(map(_short, islice(found, 4)))}"
        case _:
            shape = f"a single {type(found).__name__}"
    raise MalformedRecordError(f"a {record} should be {expected}, but is {shape}", remedy=_REMEDY)


def _short(value: "Bencoded | str") -> str:
    # Never show the repr of a nested value: it may be thousands of levels deep and megabytes long.
    if isinstance(value, list | dict):
        return f"a {type(value).__name__}"
    if isinstance(value, int):
        return str(value) if value.bit_length() < 64 else "a huge integer"
    return repr(value) if len(value) <= 64 else f"{value[:64]!r}…"


_REMEDY: Final = "Find the program that writes to this topic or store with another version of the protocol."
