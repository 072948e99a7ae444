"""Failures inside this package, and the errors that a user sees for them."""

import json
import re
from typing import Any, Final

from nats import errors as nats_errors

from brrr_core.backend import closed_error
from brrr_core.errors import BackendClosedError, BackendError, BackendRefusedError, BackendUnavailableError, BrrrError
from brrr_nats.client.messages import Reply

__all__ = [
    "FAILURES",
    "ApiError",
    "DeniedError",
    "NoReplyError",
    "NoRespondersError",
    "api_error",
    "checked",
    "is_transient",
    "to_brrr_error",
]

STREAM_NOT_FOUND: Final = 10059
CONSUMER_NOT_FOUND: Final = 10014

SEQUENCE_NOT_FOUND: Final = 10043
"""The error code, with status 400, of a cluster that deletes a message which is gone."""

JETSTREAM_DISABLED_CODES: Final = (10039, 10076)
"""Error codes of an account or a server without JetStream."""

STORAGE_FULL_CODES: Final = (10002, 10023, 10028, 10047, 10064)
"""Error codes of a full disk, full memory or an exhausted account limit."""

STORAGE_FULL_TEXT: Final = re.compile(r"maximum (messages|bytes) exceeded|insufficient|no space left|resource limits")
DUPLICATE_IN_PROCESS: Final = 10158
"""The error code, with status 409, of a message whose id another client has sent at the same moment."""

RETRY_STATUSES: Final = (429, 503)
"""Statuses of requests without effect: a leader is missing, or too many requests are in flight."""

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
        self.code, self.status, self.text = code, status, text

    @property
    def missing(self) -> bool:
        """Whether the named stream, consumer or message does not exist."""
        return self.status == 404 or self.code == SEQUENCE_NOT_FOUND


class NoReplyError(Exception):
    """No reply will come, because of `cause`. The request may have taken effect if it was `sent`."""

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
    """The account may not use the subject."""

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
    error: Any = json.loads(payload).get("error")
    if error is None:
        return None
    return ApiError(int(error.get("err_code", 0)), int(error.get("code", 0)), str(error.get("description", "")))


def checked(reply: Reply) -> Reply:
    """Return a reply of JetStream. Raises `ApiError` if it is an error."""
    error = api_error(reply.payload)
    if error is not None:
        raise error
    return reply


def is_transient(error: Exception) -> bool:
    """Whether the request had no effect, and may succeed a little later."""
    if isinstance(error, ApiError):
        if error.code == DUPLICATE_IN_PROCESS:
            return True
        return error.status in RETRY_STATUSES and error.code not in JETSTREAM_DISABLED_CODES and not _is_full(error)
    return isinstance(error, NoRespondersError) or (isinstance(error, NoReplyError) and not error.sent)


def to_brrr_error(error: Exception, servers: str) -> BrrrError:
    """Return the error for the user, with its cause. `servers` names the servers."""
    if isinstance(error, BrrrError):
        return error
    if isinstance(error, NoReplyError) and isinstance(error.cause, BackendClosedError):
        return closed_error()
    if isinstance(error, NoReplyError) and isinstance(error.cause, DeniedError):
        error = error.cause
    kind, text, remedy = _describe(error)
    described = kind(f"nats at {servers} {text}", remedy=remedy)
    described.__cause__ = error.cause if isinstance(error, NoReplyError) else error
    return described


def _describe(error: Exception) -> tuple[type[BrrrError], str, str]:
    """Return the class, the text and the remedy of the error for the user."""
    if isinstance(error, NoReplyError):
        return _describe_no_reply(error)
    if isinstance(error, ApiError):
        return _describe_api_error(error)
    if isinstance(error, NoRespondersError) and ".API." in error.subject and ".STREAM." in error.subject:
        remedy = "Enable JetStream in the server and for this account. A cluster needs a majority of its servers."
        return BackendUnavailableError, "does not reply to requests for JetStream", remedy
    if isinstance(error, NoRespondersError):
        remedy = "Its stream or consumer is missing or has no leader: see `nats stream report`, and run brrr setup."
        return BackendUnavailableError, f"has no responder for {error.subject}", remedy
    if isinstance(error, DeniedError):
        remedy = "Give the user the permissions that the README.md of brrr-nats lists."
        return BackendError, f"does not permit the subject {error.subject}", remedy
    return BackendError, f"failed ({_text_of(error)})", "Check the servers' log for the cause."


def _describe_no_reply(error: NoReplyError) -> tuple[type[BrrrError], str, str]:
    text = _text_of(error.cause)
    if re.search("authorization|authentication", text, re.IGNORECASE):
        remedy = "Check the user and the password, the token, the NKey or the credentials file."
        return BackendRefusedError, f"refuses the login ({text})", remedy
    if error.sent:
        remedy = "The operation may have taken effect. Check before you repeat it."
        return BackendUnavailableError, f"has sent no reply, or the reply was lost ({text})", remedy
    kind = BackendUnavailableError if isinstance(error.cause, CONNECT_ERRORS) else BackendRefusedError
    return kind, f"cannot be reached ({text})", "Check that it runs and that the URL is correct."


def _describe_api_error(error: ApiError) -> tuple[type[BrrrError], str, str]:
    if _is_full(error):
        remedy = "Raise the limits of its JetStream, account or stream."
        return BackendUnavailableError, f"has no room ({error})", remedy
    if error.code in JETSTREAM_DISABLED_CODES:
        return BackendError, f"has no JetStream ({error})", "Enable JetStream in the server and for this account."
    if error.code == STREAM_NOT_FOUND:
        remedy = "Its messages are lost. Run brrr setup with this URL to create it again, empty."
        return BackendUnavailableError, f"has lost a stream ({error})", remedy
    if is_transient(error) or error.missing:
        remedy = "See `nats stream report` and `nats server report`."
        return BackendUnavailableError, f"is unavailable at the moment ({error})", remedy
    return BackendError, f"refused the operation ({error})", "Check the servers' log for the cause."


def _is_full(error: ApiError) -> bool:
    return error.code in STORAGE_FULL_CODES or STORAGE_FULL_TEXT.search(error.text) is not None


def _text_of(error: Exception) -> str:
    """Return the text of an error, without the login of a URL."""
    if isinstance(error, nats_errors.NoServersError):
        return "no server took the connection"
    return URL_LOGIN.sub("****@", str(error).removeprefix("nats: ").strip("'")) or type(error).__name__
