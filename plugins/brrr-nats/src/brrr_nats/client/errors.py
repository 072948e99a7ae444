"""Failures inside this package, and the errors that a user sees for them."""

import json
import re
from typing import Any, Final

from nats import errors as nats_errors

from brrr_core.errors import BackendClosedError, BackendError, BackendRefusedError, BackendUnavailableError, BrrrError

__all__ = [
    "FAILURES",
    "ApiError",
    "DeniedError",
    "NoReplyError",
    "NoRespondersError",
    "api_error",
    "closed_error",
    "is_transient",
    "to_brrr_error",
]

STREAM_NOT_FOUND: Final = 10059
CONSUMER_NOT_FOUND: Final = 10014

JETSTREAM_DISABLED_CODES: Final = (10039, 10076)
"""Error codes of an account or a server without JetStream."""

STORAGE_FULL_CODES: Final = (10002, 10023, 10028, 10047, 10064)
"""Error codes of a full disk, full memory or an exhausted account limit."""

RETRY_STATUSES: Final = (429, 503)
"""Statuses of replies after which nothing was done: a leader is missing, or too many requests are in flight."""

STORAGE_FULL_TEXTS: Final = (
    "maximum messages exceeded",
    "maximum bytes exceeded",
    "insufficient",
    "no space left",
    "resource limits",
)


URL_LOGIN: Final = re.compile(r"(?<=//)[^/@\s]+@")
"""The login of a URL in the text of a client library or a server."""


class ApiError(Exception):
    """An error reply of JetStream.

    Args:
        code: JetStream's own code, such as 10059 for an unknown stream; 0 if the reply names none.
        status: The status, such as 404.
        text: The server's description.
    """

    def __init__(self, code: int, status: int, text: str) -> None:
        super().__init__(f"{text} ({code or status})")
        self.code = code
        self.status = status
        self.text = text

    @property
    def missing(self) -> bool:
        """Whether the named stream, consumer or message does not exist."""
        return self.status == 404


class NoReplyError(Exception):
    """No reply will come.

    Args:
        cause: Why not.
        sent: Whether the request may have reached a server, and may have been done.
    """

    def __init__(self, cause: Exception, *, sent: bool) -> None:
        super().__init__(str(cause))
        self.cause = self.__cause__ = cause
        self.sent = sent


class NoRespondersError(Exception):
    """Nothing listens on the subject: no stream, no consumer, no leader at the moment, or no JetStream."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"no responder for {subject}")
        self.subject = subject


class DeniedError(Exception):
    """The account may not use the subject.

    Args:
        subject: The refused subject.
    """

    def __init__(self, subject: str) -> None:
        super().__init__(f"it does not permit the subject {subject}")
        self.subject = subject


CONNECT_ERRORS: Final = (nats_errors.Error, OSError, EOFError)
"""Exceptions of a connection attempt to a server that is away. Others mean a refusal or an unusable key."""

FAILURES: Final = (ApiError, DeniedError, NoReplyError, NoRespondersError)
"""The internal failures of this package. None of them leaves it."""


def api_error(payload: bytes) -> ApiError | None:
    """Return the error in a JSON reply of JetStream, or None for a result."""
    if b'"error"' not in payload:
        return None
    answer: dict[str, Any] = json.loads(payload)
    error: Any = answer.get("error")
    if error is None:
        return None
    return ApiError(int(error.get("err_code", 0)), int(error.get("code", 0)), str(error.get("description", "")))


def is_transient(error: Exception) -> bool:
    """Whether nothing was done, and the same request may succeed a little later."""
    if isinstance(error, ApiError):
        return error.status in RETRY_STATUSES and error.code not in JETSTREAM_DISABLED_CODES and not _is_full(error)
    return isinstance(error, NoRespondersError) or (isinstance(error, NoReplyError) and not error.sent)


def closed_error() -> BackendClosedError:
    """Return the error of an operation on a closed backend."""
    return BackendClosedError("this backend was closed", remedy="Use it inside `async with`.")


def to_brrr_error(error: Exception, servers: str) -> BrrrError:
    """Return the error for the user, with its cause. `servers` names the servers."""
    if isinstance(error, BrrrError):
        return error
    error_for_user = _describe(error, servers)
    if error_for_user.__cause__ is None and not isinstance(error, NoReplyError):
        error_for_user.__cause__ = error
    return error_for_user


def _describe(error: Exception, servers: str) -> BrrrError:
    if isinstance(error, NoReplyError):
        return _describe_no_reply(error, servers)
    if isinstance(error, NoRespondersError) and ".API." in error.subject and ".STREAM." in error.subject:
        return BackendUnavailableError(
            f"JetStream of nats at {servers} does not reply",
            remedy="Enable JetStream, also for this account. A cluster needs a majority of its servers.",
        )
    if isinstance(error, NoRespondersError):
        return BackendUnavailableError(
            f"nats at {servers} has no responder for {error.subject}",
            remedy="Its stream or consumer is missing or has no leader: see `nats stream report`, and run brrr setup.",
        )
    if isinstance(error, DeniedError):
        return BackendError(
            f"nats at {servers} does not permit the subject {error.subject}",
            remedy="Give the user the permissions that the README.md of brrr-nats lists.",
        )
    if isinstance(error, ApiError):
        return _describe_api_error(error, servers)
    return BackendError(f"nats at {servers} failed ({_text_of(error)})", remedy="Check the servers' log for the cause.")


def _describe_no_reply(error: NoReplyError, servers: str) -> BrrrError:
    cause = error.cause
    if isinstance(cause, BackendClosedError):
        return closed_error()
    if isinstance(cause, DeniedError):
        return to_brrr_error(cause, servers)
    text = _text_of(cause)
    lower = text.lower()
    if "authorization" in lower or "authentication" in lower:
        error_for_user: BrrrError = BackendRefusedError(
            f"nats at {servers} refuses the login ({text})",
            remedy="Check the user and the password, the token, the NKey or the credentials file.",
        )
    elif error.sent:
        error_for_user = BackendUnavailableError(
            f"the reply of nats at {servers} was lost ({text})",
            remedy="The operation may have been done: check before you repeat it.",
        )
    else:
        kind = BackendUnavailableError if isinstance(cause, CONNECT_ERRORS) else BackendRefusedError
        error_for_user = kind(
            f"nats at {servers} cannot be reached ({text})", remedy="Check that it runs and that the URL is right."
        )
    error_for_user.__cause__ = cause
    return error_for_user


def _describe_api_error(error: ApiError, servers: str) -> BrrrError:
    if _is_full(error):
        return BackendUnavailableError(
            f"nats at {servers} has no room ({error})", remedy="Raise the limits of its JetStream, account or stream."
        )
    if error.code in JETSTREAM_DISABLED_CODES:
        return BackendError(
            f"nats at {servers} has no JetStream ({error})", remedy="Enable JetStream, also for this account."
        )
    if error.code == STREAM_NOT_FOUND:
        return BackendUnavailableError(
            f"a stream of nats at {servers} no longer exists ({error})",
            remedy="Its messages are lost. Run brrr setup with this URL to create it again, empty.",
        )
    if is_transient(error) or error.missing:
        return BackendUnavailableError(
            f"nats at {servers} is unavailable at the moment ({error})",
            remedy="See `nats stream report` and `nats server report`.",
        )
    return BackendError(
        f"nats at {servers} refused the operation ({error})", remedy="Check the servers' log for the cause."
    )


def _is_full(error: ApiError) -> bool:
    return error.code in STORAGE_FULL_CODES or any(text in error.text for text in STORAGE_FULL_TEXTS)


def _text_of(error: Exception) -> str:
    """Return the text of an error, without the login of a URL."""
    if isinstance(error, nats_errors.NoServersError):
        return "no server took the connection"
    return URL_LOGIN.sub("****@", str(error).removeprefix("nats: ").strip("'")) or type(error).__name__
