"""The bencode records that workers in all languages share. Implements `docs/reference/protocol.md`.

This module has pure functions and frozen types only; it knows no queue or store. For any bytes, a decoder returns the
record or raises `MalformedRecordError`. An encoder raises the same error for a record that no decoder accepts. Root ids
and call hashes are non-empty, printable US-ASCII; other text is UTF-8. `scheduled_at` is an integer of 64 bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil
from operator import lt
from typing import Final, NamedTuple

from bencode2 import bencode

from brrr_core.bencoded import (
    Bencoded,
    check_bytes,
    check_tokens,
    decode,
    encode,
    read_text,
    read_token,
    read_tokens,
    reject,
)
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

SECONDS: Final = range(-(2**63), 2**63)
"""The unix seconds that a record can hold. Python cannot compute with much larger numbers and a float."""

EXPIRED: Final = b"\xc1brrr-expired"
"""The outcome of a wait that ended at its deadline."""


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
        exhausted: Whether the attempts of the call were used up. If so, its message is also dead-lettered.
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
        cancelled_at: The call hashes at which `Cancelled` was raised, so that every re-run raises it there again.
        observed: The failures of children that the handler has seen, by call hash.
        retries: How often the call was retried after it had failed. Each retry begins new waits.
    """

    cancel: bool = False
    cancelled_at: tuple[str, ...] = ()
    observed: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    retries: int = 0


NO_STATE: Final = CallState()
"""The state of a call without a state record."""


class Buried(NamedTuple):
    """A dead letter that keeps calls from their outcomes: its call, topic, attempt, time in unix seconds and reason."""

    call_hash: str
    topic: str
    attempt: int
    at: int
    reason: str


class FailedAttempt(NamedTuple):
    """A failed attempt of a call that runs again: its topic, number, time and the time of the next, and the reason.

    Times are unix seconds. The reason is one line.
    """

    topic: str
    attempt: int
    at: int
    due: int
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
    check_tokens(root_id, call_hash)
    return bencode((MESSAGE_TAG, root_id, call_hash))


def decode_message(body: bytes) -> ScheduleMessage:
    """Read a schedule message.

    Raises:
        MalformedRecordError: The body is not the list of tag 2, a root id and a call hash.
    """
    fields = decode("schedule message", body)
    if isinstance(fields, list) and len(fields) == 3:
        tag, root_id, call_hash = fields
        if tag == MESSAGE_TAG and isinstance(root_id, bytes) and isinstance(call_hash, bytes):
            return ScheduleMessage(*read_tokens(root_id, call_hash))
    reject("schedule message", "[2, root id, call hash]", fields)


def encode_call(call: Call) -> bytes:
    """Return the call record: the dict `{payload, task_name}`. The call hash is in the key of the record.

    Raises:
        MalformedRecordError: The task name cannot be encoded as UTF-8.
    """
    return encode("call record", {"payload": call.payload, "task_name": call.task_name})


def decode_call(call_hash: str, record: bytes) -> Call:
    """Read the record of the call `call_hash`.

    Raises:
        MalformedRecordError: The record is not a dict with exactly a payload and a task name.
    """
    fields = decode("call record", record)
    if isinstance(fields, dict) and len(fields) == 2:
        payload, task_name = fields.get(b"payload"), fields.get(b"task_name")
        if isinstance(payload, bytes) and isinstance(task_name, bytes):
            return Call(read_text("task name", task_name), payload, call_hash)
    reject("call record", "{payload: bytes, task_name: text}", fields)


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
    return FAILURE_PREFIX + encode("failure", fields)


def decode_failure(record: bytes) -> Failure:
    """Read the value record of a failure, which begins with `FAILURE_PREFIX`. Ignore unknown fields.

    Raises:
        MalformedRecordError: The record has a wrong shape.
    """
    fields = decode("failure", check_bytes("failure", record)[len(FAILURE_PREFIX) :])
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
                read_text("type", kind),
                read_text("message", message),
                read_text("traceback", trace),
                details,
                exhausted=bool(exhausted),
                causes=tuple(map(_cause, causes)),
            )
    reject("failure", "{message: text, traceback: text, type: text, …}", fields)


def encode_due(due: float) -> bytes:
    """Return the record of the time at which a wait is due: unix milliseconds in decimal."""
    return str(ceil(due * 1000)).encode()


def decode_due(record: bytes) -> float:
    """Read the time at which a wait is due, in unix seconds.

    Raises:
        MalformedRecordError: The record is not a number.
    """
    if not record.isdigit() or len(record) > 15:
        reject("due time", "unix milliseconds in decimal", record)
    return int(record) / 1000


def encode_buried(buried: Buried) -> bytes:
    """Return the note of a dead letter: the dict `{at, attempt, call, reason, topic}`."""
    call_hash, topic, attempt, at, reason = buried
    fields = {"at": at, "attempt": attempt, "call": call_hash, "reason": reason, "topic": topic}
    return encode("note of a dead letter", fields)


def decode_buried(record: bytes) -> Buried:
    """Read the note of a dead letter.

    Raises:
        MalformedRecordError: The record has a wrong shape.
    """
    match decode("note of a dead letter", record):
        case {
            b"at": int(at),
            b"attempt": int(attempt),
            b"call": bytes(call),
            b"reason": bytes(why),
            b"topic": bytes(on),
        }:
            return Buried(read_token("call hash", call), read_text("topic", on), attempt, at, read_text("reason", why))
        case other:
            reject("note of a dead letter", "{at, attempt, call, reason, topic}", other)


def encode_failed_attempt(failed: FailedAttempt) -> bytes:
    """Return the note of a failed attempt: the dict `{at, attempt, due, reason, topic}`."""
    return encode("note of a failed attempt", failed._asdict())


def decode_failed_attempt(record: bytes) -> FailedAttempt:
    """Read the note of a failed attempt.

    Raises:
        MalformedRecordError: The record has a wrong shape.
    """
    match decode("note of a failed attempt", record):
        case {
            b"at": int(at),
            b"attempt": int(attempt),
            b"due": int(due),
            b"reason": bytes(why),
            b"topic": bytes(on),
        }:
            return FailedAttempt(read_text("topic", on), attempt, at, due, read_text("reason", why))
        case other:
            reject("note of a failed attempt", "{at, attempt, due, reason, topic}", other)


def encode_pending(pending: PendingReturns) -> bytes:
    """Return the pending record: the dict `{returns, scheduled_at}`, without `scheduled_at` if it is None.

    Raises:
        MalformedRecordError: A root id or call hash is not printable US-ASCII, a topic cannot be encoded as UTF-8,
            or `scheduled_at` is not an integer of 64 bits.
    """
    returns: list[tuple[int, str, str, str]] = []
    for root_id, call_hash, topic in _in_order(pending.returns):
        check_tokens(root_id, call_hash)
        returns.append((RETURN_TAG, root_id, call_hash, topic))
    at = pending.scheduled_at
    if at is None:
        return encode("pending-returns record", {"returns": returns})
    if type(at) is not int:  # a bool would be written as 1 or 0
        raise MalformedRecordError(f"scheduled_at is a {type(at).__name__}", remedy="Pass whole unix seconds, or None.")
    if at not in SECONDS:
        raise MalformedRecordError("scheduled_at has more than 64 bits", remedy="Pass whole unix seconds, or None.")
    return encode("pending-returns record", {"returns": returns, "scheduled_at": at})


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
    return encode("call state", fields)


def decode_state(record: bytes | None) -> CallState:
    """Read the record of a call's state. Ignore unknown fields. Without a record, return `NO_STATE`.

    Raises:
        MalformedRecordError: The record has a wrong shape.
    """
    if record is None:
        return NO_STATE
    fields = decode("call state", record)
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
                {read_token("call hash", child): _bytes_of(failure) for child, failure in observed.items()},
                retries,
            )
    reject("call state", "{cancel, cancelled_at, observed, retries}", fields)


def decode_pending(record: bytes) -> PendingReturns:
    """Read a pending record. Sort its returns in the protocol's order if the writer did not.

    Raises:
        MalformedRecordError: The record or one of its returns has a wrong shape.
    """
    return _pending(check_bytes("pending-returns record", record))


@lru_cache(maxsize=8)  # parents that find a full record read it repeatedly, and it holds a thousand returns
def _pending(record: bytes) -> PendingReturns:
    fields = decode("pending-returns record", record)
    if isinstance(fields, dict):
        entries, scheduled_at = fields.get(b"returns"), fields.get(b"scheduled_at")
        if (
            isinstance(entries, list)
            and (scheduled_at is None or (isinstance(scheduled_at, int) and scheduled_at in SECONDS))
            and len(fields) == (1 if scheduled_at is None else 2)
        ):
            return PendingReturns(_in_order(tuple(map(_return, entries))), scheduled_at)
    reject("pending-returns record", "{returns: list, scheduled_at: integer of 64 bits or left out}", fields)


def _return(entry: Bencoded) -> PendingReturn:
    if isinstance(entry, list) and len(entry) == 4:
        tag, root_id, call_hash, topic = entry
        if (
            tag == RETURN_TAG
            and isinstance(root_id, bytes)
            and isinstance(call_hash, bytes)
            and isinstance(topic, bytes)
        ):
            return PendingReturn(*read_tokens(root_id, call_hash), read_text("topic", topic))
    reject("pending return", "[1, root id, call hash, topic]", entry)


def _cause(entry: Bencoded) -> Cause:
    match entry:
        case [bytes() as task_name, bytes() as call_hash, bytes() as kind, bytes() as message]:
            return Cause(
                read_text("task name", task_name),
                read_token("call hash", call_hash),
                read_text("type", kind),
                read_text("message", message),
            )
        case other:
            reject("cause of a failure", "[task name, call hash, type, message]", other)


def _place(entry: Bencoded) -> str:
    return read_token("call hash", _bytes_of(entry))


def _bytes_of(entry: Bencoded) -> bytes:
    if not isinstance(entry, bytes):
        reject("field of a call state", "bytes", entry)
    return entry


def _in_order(returns: tuple[PendingReturn, ...]) -> tuple[PendingReturn, ...]:
    # Correct writers sort their records, and checking the order is cheaper than sorting again.
    if len(returns) < 2 or all(map(lt, returns, returns[1:])):
        return returns
    return tuple(sorted(set(returns)))
