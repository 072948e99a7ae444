"""Failures as outcomes: the record of a handler's error, and the error that its callers see."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from brrr_core.errors import BrrrError, CallFailedError, Cause, EncodeError, TerminalError
from brrr_core.safe_text import Mask, class_name, format_traceback, safe_str
from brrr_core.wire import FAILURE_PREFIX, Call, Failure, decode_failure, encode_failure

__all__ = [
    "DETAILS_LIMIT",
    "check_details",
    "check_value",
    "exhausted_failure",
    "failure_by_hand",
    "failure_of",
    "raise_if_failed",
    "without_traceback",
]

DETAILS_LIMIT: Final = 16 * 1024
"""The most bytes of the encoded details of a failure."""

MESSAGE_LIMIT: Final = 4 * 1024
"""The most characters of the message of a failure."""

CAUSES_LIMIT: Final = 16
"""The most causes of a failure: the nearest, and last the first one."""


def failure_of(error: BaseException, *, exhausted: bool, mask: Mask) -> Failure:
    """Return the failure of a handler that raised `error`. It has a bounded size and no secrets."""
    causes: tuple[Cause, ...] = ()
    if isinstance(error, CallFailedError):
        causes = (Cause(error.task_name, error.call_hash, error.error_type, error.message), *error.causes)
        if len(causes) > CAUSES_LIMIT:
            causes = (*causes[: CAUSES_LIMIT - 1], causes[-1])
    message = error.what if isinstance(error, BrrrError) else error
    return Failure(
        class_name(error),
        safe_str(message, mask=mask)[:MESSAGE_LIMIT],
        format_traceback(error, mask=mask),
        error.encoded_details if isinstance(error, TerminalError) else None,
        exhausted=exhausted,
        causes=causes,
    )


def failure_by_hand(message: str, details: bytes | None = None) -> Failure:
    """Return the failure of a call or an event that a client lets fail."""
    return Failure(TerminalError.__name__, message[:MESSAGE_LIMIT], details=details)


def raise_if_failed(call: Call, value: bytes, decode_details: Callable[[bytes], object]) -> None:
    """Raise the error for the callers of a call if its value record is a failure.

    Args:
        call: The call.
        value: Its value record.
        decode_details: Decodes the details of the failure.

    Raises:
        CallFailedError: The call failed for good.
        MalformedRecordError: The record is not valid.
    """
    if not value.startswith(FAILURE_PREFIX):
        return
    failure = decode_failure(value)
    first = failure.causes[-1] if failure.causes else None
    what = f"the call {call.call_hash} of {call.task_name!r} failed: {failure.error_type}: {failure.message}"
    if first is not None:
        what = (
            f"the call {call.call_hash} of {call.task_name!r} failed, because the call {first.call_hash} of "
            f"{first.task_name!r} did: {first.error_type}: {first.message}"
        )
    error = CallFailedError(
        what.rstrip(": "),
        remedy="Handle CallFailedError in the calling handler, or schedule a call with other arguments.",
    )
    error.task_name, error.call_hash = call.task_name, call.call_hash
    error.error_type, error.message, error.traceback = failure.error_type, failure.message, failure.traceback
    error.details = None if failure.details is None else decode_details(failure.details)
    error.causes, error.exhausted = failure.causes, failure.exhausted
    raise error


def exhausted_failure(value: bytes) -> Failure | None:
    """Return the failure of a call whose attempts were used up; None if the value record is anything else."""
    failure = decode_failure(value) if value.startswith(FAILURE_PREFIX) else None
    return failure if failure is not None and failure.exhausted else None


def without_traceback(record: bytes) -> bytes:
    """Return the record of a failure without its traceback, which would make the record of many failures large."""
    return encode_failure(replace(decode_failure(record), traceback=""))


def check_value(task_name: str, value: bytes) -> None:
    """Refuse an encoded result that readers would take for a failure.

    Raises:
        EncodeError: It begins with the prefix of failures.
    """
    if value.startswith(FAILURE_PREFIX):
        raise EncodeError(
            f"the encoded result of task {task_name!r} begins with {FAILURE_PREFIX!r}, which marks failures",
            remedy="Use a codec whose results never begin with these bytes.",
        )


def check_details(task_name: str, details: bytes) -> None:
    """Refuse details that are too large.

    Raises:
        EncodeError: They have more than `DETAILS_LIMIT` bytes.
    """
    if len(details) > DETAILS_LIMIT:
        raise EncodeError(
            f"the details of a failure of task {task_name!r} have {len(details)} bytes, more than {DETAILS_LIMIT}",
            remedy="Store the data elsewhere, and pass its name as details.",
        )
