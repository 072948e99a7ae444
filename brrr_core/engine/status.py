"""The status of a call, according to its records."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from brrr_core.backend.contracts import Key
from brrr_core.engine.attempts import attempt_key, read_failed_attempt
from brrr_core.engine.connection import Connection
from brrr_core.engine.waiting import DeadLetters, blocking_letter
from brrr_core.wire import FAILURE_PREFIX, PendingReturns, decode_call, decode_failure, decode_pending

__all__ = ["CallStatus", "Waiter", "read_status"]


class Waiter(NamedTuple):
    """A call that will be woken by the outcome of another one.

    Attributes:
        call_hash: The identity of the call.
        topic: The topic of its messages.
        root_id: Its schedule.
    """

    call_hash: str
    topic: str
    root_id: str


class CallStatus(NamedTuple):
    """The status of a call.

    Attributes:
        call_hash: The identity of the call.
        state: `done` if it has a value, and `failed` if it failed for good. `dead-lettered` if it, or a call that it
            waits for, was dead-lettered. `retrying` if its last attempt failed, and another one is due. `scheduled` if
            it was put on a queue, or another call waits for it. Otherwise `unknown`.
        since: The time at which the call was last put, of the dead letter, or of the failed attempt, in unix seconds;
            None if not known.
        reason: The message of the failure, or the first line of why the attempt failed or the call is a dead letter.
        topic: The topic of the dead letter, or of the failed attempt.
        dead_call: The call hash of the dead letter.
        task_name: The task; None if the call was never scheduled, or is an event.
        payload: The encoded arguments; None if the task is not known.
        value: The encoded value; None if it has none.
        waiters: The calls that wait for it, and that its outcome will wake.
        attempt: The number of the failed attempt.
        due: The time at which the next attempt is due, in unix seconds.
    """

    call_hash: str
    state: Literal["done", "failed", "dead-lettered", "retrying", "scheduled", "unknown"]
    since: int | None = None
    reason: str | None = None
    topic: str | None = None
    dead_call: str | None = None
    task_name: str | None = None
    payload: bytes | None = None
    value: bytes | None = None
    waiters: Sequence[Waiter] = ()
    attempt: int | None = None
    due: int | None = None


async def read_status(connection: Connection, call_hash: str, letters: Callable[[str], DeadLetters]) -> CallStatus:
    """Return the status of a call.

    Args:
        connection: The connection.
        call_hash: The call.
        letters: Returns the dead letters of a topic.

    Raises:
        MalformedRecordError: A record of the call is not valid.
        BackendError: A backend failed.
    """
    buried = await blocking_letter(connection, call_hash, letters)
    value, record, written, note = await connection.read(
        [Key("value", call_hash), Key("pending_returns", call_hash), Key("call", call_hash), attempt_key(call_hash)]
    )
    call = None if written is None else decode_call(call_hash, written)
    pending = PendingReturns() if record is None else decode_pending(record)
    found = CallStatus(
        call_hash,
        "unknown" if call is None and record is None else "scheduled",
        pending.scheduled_at,
        task_name=None if call is None else call.task_name,
        payload=None if call is None else call.payload,
        waiters=[
            Waiter(entry.call_hash, entry.topic, entry.root_id)
            for entry in pending.returns
            if entry.call_hash != call_hash  # a note of the engine to itself
        ],
    )
    if value is not None and value.startswith(FAILURE_PREFIX):
        failure = decode_failure(value)
        return found._replace(state="failed", reason=f"{failure.error_type}: {failure.message}", since=None)
    if value is not None:
        return found._replace(state="done", value=value, since=None)
    if buried is not None:
        return found._replace(
            state="dead-lettered",
            since=buried.at,
            reason=buried.reason,
            topic=buried.topic,
            dead_call=buried.call_hash,
        )
    if (last := read_failed_attempt(note)) is not None:
        return found._replace(
            state="retrying",
            since=last.at,
            reason=last.reason,
            topic=last.topic,
            attempt=last.attempt,
            due=last.due,
        )
    return found
