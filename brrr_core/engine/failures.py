"""Failures as outcomes: the record of a handler's error, and the error that its callers see."""

from collections.abc import Callable
from typing import Final

from brrr_core.errors import BrrrError, CallFailedError, Cause, EncodeError, TerminalError
from brrr_core.safe_text import Mask, class_name, format_traceback, safe_str
from brrr_core.wire import FAILURE_PREFIX, Call, Failure, decode_failure

__all__ = ["DETAILS_LIMIT", "check_details", "check_value", "failed_call", "failure_of", "is_exhausted"]

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


def failed_call(call: Call, record: bytes, decode_details: Callable[[bytes], object]) -> CallFailedError:
    """Return the error for the callers of a failed call.

    Args:
        call: The failed call.
        record: Its value record, which begins with `FAILURE_PREFIX`.
        decode_details: Decodes the details of the failure.

    Raises:
        MalformedRecordError: The record is not valid.
    """
    failure = decode_failure(record)
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
    return error


def is_exhausted(value: bytes) -> bool:
    """Whether a value record is the failure of a call whose attempts were used up."""
    return value.startswith(FAILURE_PREFIX) and decode_failure(value).exhausted


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
