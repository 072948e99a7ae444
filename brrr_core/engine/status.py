"""The status of a call, according to its records."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from brrr_core.backend.contracts import Key
from brrr_core.engine.connection import Connection
from brrr_core.engine.waiting import DeadLetters, blocking_letter
from brrr_core.wire import FAILURE_PREFIX, decode_failure, decode_pending

__all__ = ["CallStatus", "read_status"]


class CallStatus(NamedTuple):
    """The status of a call.

    Attributes:
        call_hash: The identity of the call.
        state: `done` if it has a value, and `failed` if it failed for good. `dead-lettered` if it, or a call that it
            waits for, was dead-lettered. `scheduled` if it was put on a queue, or another call waits for it. Otherwise
            `unknown`.
        since: The time at which the call was last put, or of the dead letter, in unix seconds; None if not known.
        reason: The message of the failure, or the first line of the dead letter's reason.
        topic: The topic of the dead letter.
        dead_call: The call hash of the dead letter.
    """

    call_hash: str
    state: Literal["done", "failed", "dead-lettered", "scheduled", "unknown"]
    since: int | None = None
    reason: str | None = None
    topic: str | None = None
    dead_call: str | None = None


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
    value, pending, call = await connection.read(
        [Key("value", call_hash), Key("pending_returns", call_hash), Key("call", call_hash)]
    )
    if value is not None:
        if not value.startswith(FAILURE_PREFIX):
            return CallStatus(call_hash, "done")
        failure = decode_failure(value)
        return CallStatus(call_hash, "failed", reason=f"{failure.error_type}: {failure.message}")
    if buried is not None:
        return CallStatus(call_hash, "dead-lettered", buried.at, buried.reason, buried.topic, buried.call_hash)
    if pending is not None:
        return CallStatus(call_hash, "scheduled", decode_pending(pending).scheduled_at)
    return CallStatus(call_hash, "unknown" if call is None else "scheduled")
