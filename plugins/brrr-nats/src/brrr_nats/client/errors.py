"""What the errors of servers and connections mean: to whoever tries again, and to a user."""

import json
import re
from typing import Any, Final

from nats import errors as nats_errors

from brrr_core.errors import BackendClosedError, BackendError, BackendRefusedError, BackendUnavailableError, BrrrError

__all__ = [
    "FAILURES",
    "ApiError",
    "DeniedError",
    "Lost",
    "NoResponders",
    "api_error",
    "closed",
    "is_passing",
    "translated",
]

STREAM_NOT_FOUND: Final = 10059
CONSUMER_NOT_FOUND: Final = 10014

DISABLED: Final = (10039, 10076)
"""Codes by which an account, or a server, has no JetStream."""

FULL: Final = (10002, 10023, 10028, 10047, 10064)
"""Codes by which there is no room: storage or memory, or what the account is allowed."""

AGAIN: Final = (429, 503)
"""The statuses of answers after which nothing was done: a leader is missing, or too much is under way."""

ROOM: Final = (
    "maximum messages exceeded",
    "maximum bytes exceeded",
    "insufficient",
    "no space left",
    "resource limits",
)


SECRET: Final = re.compile(r"(?<=//)[^/@\s]+@")
"""The login of a URL, in what a client library or a server says."""


class ApiError(Exception):
    """What JetStream answered in place of a result.

    Args:
        code: JetStream's own code, like 10059 for a stream that is not there; 0 where it names none.
        status: The status that goes with it, like 404.
        text: What it says.
    """

    def __init__(self, code: int, status: int, text: str) -> None:
        super().__init__(f"{text} ({code or status})")
        self.code = code
        self.status = status
        self.text = text

    @property
    def missing(self) -> bool:
        """Whether the stream, the consumer or the message that was named is not there."""
        return self.status == 404


class Lost(Exception):  # noqa: N818 - it says what became of an answer
    """There will be no answer.

    Args:
        cause: Why.
        sent: Whether the request may have reached a server, and may have been done.
    """

    def __init__(self, cause: Exception, *, sent: bool) -> None:
        super().__init__(str(cause))
        self.cause = self.__cause__ = cause
        self.sent = sent


class NoResponders(Exception):  # noqa: N818 - NATS' own word for it
    """Nobody listens to the subject: no stream, no consumer, no leader at the moment, or no JetStream."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"nobody answers to {subject}")
        self.subject = subject


class DeniedError(Exception):
    """The account may not use the subject.

    Args:
        subject: Which one.
    """

    def __init__(self, subject: str) -> None:
        super().__init__(f"it does not permit the subject {subject}")
        self.subject = subject


AWAY: Final = (nats_errors.Error, OSError, EOFError)
"""What connecting raises if a server is not there. Others come of what it says, or of a key that is none."""

FAILURES: Final = (ApiError, DeniedError, Lost, NoResponders)
"""All that stands for a failure inside this package; none of them leaves it."""


def api_error(payload: bytes) -> ApiError | None:
    """The error that a JSON answer of JetStream's is; None where it is a result."""
    if b'"error"' not in payload:
        return None
    answer: dict[str, Any] = json.loads(payload)
    error: Any = answer.get("error")
    if error is None:
        return None
    return ApiError(int(error.get("err_code", 0)), int(error.get("code", 0)), str(error.get("description", "")))


def is_passing(error: Exception) -> bool:
    """Whether nothing was done, and the same request may succeed a little later."""
    if isinstance(error, ApiError):
        return error.status in AGAIN and error.code not in DISABLED and not _is_full(error)
    return isinstance(error, NoResponders) or (isinstance(error, Lost) and not error.sent)


def closed() -> BackendClosedError:
    """The error of a backend that is not open any more."""
    return BackendClosedError("this backend was closed", remedy="Use it inside `async with`.")


def translated(error: Exception, where: str) -> BrrrError:
    """The error for the user, with its cause. `where` names the servers."""
    if isinstance(error, BrrrError):
        return error
    ours = _translated(error, where)
    if ours.__cause__ is None and not isinstance(error, Lost):
        ours.__cause__ = error
    return ours


def _translated(error: Exception, where: str) -> BrrrError:
    if isinstance(error, Lost):
        return _lost(error, where)
    if isinstance(error, NoResponders) and ".API." in error.subject and ".STREAM." in error.subject:
        return BackendUnavailableError(
            f"nats at {where} has no JetStream that answers",
            remedy="Enable it, for this account too; in a cluster a majority of the servers has to be up.",
        )
    if isinstance(error, NoResponders):
        return BackendUnavailableError(
            f"nats at {where} has nobody that answers to {error.subject}",
            remedy="Its stream or consumer is gone or has no leader: see `nats stream report`, and run brrr setup.",
        )
    if isinstance(error, DeniedError):
        return BackendError(
            f"nats at {where} does not permit the subject {error.subject}",
            remedy="Give its user the permissions that README.md lists.",
        )
    if isinstance(error, ApiError):
        return _refused(error, where)
    return BackendError(f"nats at {where} failed ({_said(error)})", remedy="See what it says, and the servers' log.")


def _lost(error: Lost, where: str) -> BrrrError:
    cause = error.cause
    if isinstance(cause, BackendClosedError):
        return closed()
    if isinstance(cause, DeniedError):
        return translated(cause, where)
    said = _said(cause)
    lower = said.lower()
    if "authorization" in lower or "authentication" in lower:
        ours: BrrrError = BackendRefusedError(
            f"nats at {where} refuses the login ({said})",
            remedy="Check the user and the password, the token, the NKey or the credentials file.",
        )
    elif error.sent:
        ours = BackendUnavailableError(
            f"the answer of nats at {where} was lost ({said})",
            remedy="What was asked for may have been done; look before you ask again.",
        )
    else:
        kind = BackendUnavailableError if isinstance(cause, AWAY) else BackendRefusedError
        ours = kind(
            f"nats at {where} cannot be reached ({said})", remedy="Check that it runs, and that the URL names it."
        )
    ours.__cause__ = cause
    return ours


def _refused(error: ApiError, where: str) -> BrrrError:
    if _is_full(error):
        return BackendUnavailableError(
            f"nats at {where} has no room ({error})", remedy="Raise the limits of its JetStream, account or stream."
        )
    if error.code in DISABLED:
        return BackendError(f"nats at {where} has no JetStream ({error})", remedy="Enable it, for this account too.")
    if error.code == STREAM_NOT_FOUND:
        return BackendUnavailableError(
            f"nats at {where} does not have a stream any more ({error})",
            remedy="What it held is lost. Run brrr setup with this URL to make it again, empty.",
        )
    if is_passing(error) or error.missing:
        return BackendUnavailableError(
            f"nats at {where} cannot do it now ({error})", remedy="See `nats stream report` and `nats server report`."
        )
    return BackendError(
        f"nats at {where} did not take the operation ({error})", remedy="See what it says, and the servers' log."
    )


def _is_full(error: ApiError) -> bool:
    return error.code in FULL or any(text in error.text for text in ROOM)


def _said(error: Exception) -> str:
    """What an error says, without the login of a URL."""
    if isinstance(error, nats_errors.NoServersError):
        return "no server took the connection"
    return SECRET.sub("****@", str(error).removeprefix("nats: ").strip("'")) or type(error).__name__
