"""Errors of servers and connections: whether a retry can help, and the errors of brrr that users see."""

import re
import ssl
from collections.abc import Mapping
from typing import Any, Final

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from brrr_core.backend import causes_of
from brrr_core.errors import BackendError, BackendRefusedError, BackendUnavailableError, BrrrError

__all__ = [
    "ConnectionClosedError",
    "NoPrimaryError",
    "NoReplyError",
    "WrongTopologyError",
    "cluster_member_error",
    "is_transient",
    "may_have_moved",
    "no_primary_error",
    "redact",
    "translate",
]

TRANSIENT: Final = {
    "LOADING": ("is still loading its data", "Wait, or raise `retry_for`"),
    "READONLY": ("is a replica, and takes no writes", "Name the primary, or use redis+sentinel: or redis+cluster:"),
    "MASTERDOWN": ("is a replica that has lost its primary", "Wait for the failover, or raise `retry_for`"),
    "CLUSTERDOWN": ("is part of a cluster that is down", "See CLUSTER INFO; every slot needs a running primary"),
    "TRYAGAIN": ("is moving a slot", "Wait, or raise `retry_for`"),
    "BUSY": ("is busy with a script", "Find the script with SLOWLOG; SCRIPT KILL ends it"),
    "NOREPLICAS": ("has too few replicas to take writes", "Start the replicas, or lower min-replicas-to-write"),
    "UNBLOCKED": ("ended a blocking command", "Wait for the failover"),
}
"""Replies to a command that had no effect and may succeed later. For each code: the problem and the remedy."""

UNAVAILABLE: Final = {
    "OOM": ("is full: it has reached its maxmemory", "Raise maxmemory, or set `ttl`; nothing was stored"),
    "MISCONF": ("cannot save its data, and takes no writes", "Check the server's log and its disk"),
}
"""Replies of a server that an operator must repair. For each code: the problem and the remedy."""

LOGIN_REFUSED: Final = {
    "NOAUTH": ("requires a login", "Add one to the URL: redis://USER@HOST?password_env=NAME"),
    "WRONGPASS": ("refuses the login", "Check the username and the password"),
}
"""Replies of a server that refuses the login. For each code: the problem and the remedy."""

CODE_BY_CLASS: Final[dict[type[Exception], str]] = {
    BusyLoadingError: "LOADING",
    ReadOnlyError: "READONLY",
    MasterDownError: "MASTERDOWN",
    ClusterDownError: "CLUSTERDOWN",
    TryAgainError: "TRYAGAIN",
    OutOfMemoryError: "OOM",
    NoPermissionError: "NOPERM",
    ClusterCrossSlotError: "CROSSSLOT",
}
"""Codes that redis-py turns into classes and removes from the text of the reply."""

WRONG_SERVER: Final = ("READONLY", "CLUSTERDOWN", "MASTERDOWN", "UNBLOCKED")
"""Replies of a server that may no longer be the right one."""

TOO_MANY_CLIENTS: Final = "max number of clients"
"""Part of the reply of a server that takes no more connections."""

DENIED_IN_SCRIPT: Final = ("ACL failure in script: ", "The user executing the script can't ")
"""Parts of the reply if the login may not run a command of a script, in Redis 7 and before. It has no NOPERM."""

SENT_SECRETS: Final = re.compile(r",? with args beginning with.*|(?<=\buser )\S+(?= has )", re.IGNORECASE | re.DOTALL)
"""Parts of replies that repeat a request: arguments, which can be a password; usernames, which can be a token."""

REFUSED_CERTIFICATE: Final = re.compile(r"_ALERT_(?:UNKNOWN_CA|HANDSHAKE_FAILURE|.*CERTIFICATE)")
"""Reasons of an SSLError if the server rejects the certificate of this client, or gets none."""


class ConnectionClosedError(RedisError):
    """This client closed the connection."""

    def __str__(self) -> str:
        return "the connection was closed"


class NoReplyError(Exception):
    """A command has no reply, and will get none.

    Args:
        cause: The error of the connection.
        sent: Whether the command may have reached the server, and may have run.
    """

    def __init__(self, cause: Exception, *, sent: bool) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.sent = sent


class NoPrimaryError(RedisError):
    """No server reports which one is the primary."""


class WrongTopologyError(NoPrimaryError):
    """The URL names another kind of server: these form no cluster, or their sentinels do not know the service."""


REFUSALS: Final = (WrongTopologyError, AuthenticationError, ResponseError)
"""Errors of a server that answers, and refuses the connection."""


def no_primary_error(what: str, failures: Mapping[Any, Exception]) -> NoPrimaryError:
    """Return the error to raise if all servers failed. `failures` has the error of each server."""
    wrong = all(isinstance(error, REFUSALS) for error in failures.values())
    details = "; ".join(f"{server}: {error}" for server, error in failures.items())
    ours = (WrongTopologyError if wrong else NoPrimaryError)(f"{what}: {details}")
    ours.__cause__ = [*failures.values()][-1]
    return ours


def redact(error: BaseException) -> None:
    """Remove what may be secret from the text of a server's error, and of its causes."""
    for found in causes_of(error):
        found.args = tuple(SENT_SECRETS.sub(_mask, each) if isinstance(each, str) else each for each in found.args)


def _refuses_certificate(error: BaseException) -> bool:
    """Whether the client or the server refused the certificate of the other side."""
    return any(
        isinstance(found, ssl.SSLCertVerificationError)
        or (isinstance(found, ssl.SSLError) and REFUSED_CERTIFICATE.search(found.reason or ""))
        for found in causes_of(error)
    )


def _mask(secret: re.Match[str]) -> str:
    return "" if "with args" in secret[0].lower() else "****"


def cluster_member_error(server: str) -> BackendError:
    """Return the error for a server of a cluster whose URL does not begin with `redis+cluster:`."""
    return BackendError(
        f"redis at {server} is one server of a cluster, and other servers hold part of the keys",
        remedy="Begin the URL with redis+cluster:.",
    )


def is_transient(error: Exception) -> bool:
    """Whether the same command may succeed a little later."""
    if isinstance(error, NoReplyError):
        return not isinstance(error.cause, AuthenticationError) and not _refuses_certificate(error.cause)
    return _code_in(error, TRANSIENT) is not None


def may_have_moved(error: Exception) -> bool:
    """Whether another server may be the right one now."""
    return isinstance(error, NoReplyError) or _code_in(error, WRONG_SERVER) is not None


def translate(error: Exception, server: str) -> BrrrError:
    """Return the error that the user sees, with its cause. `server` names the server."""
    cause = error.cause if isinstance(error, NoReplyError) else error
    if isinstance(cause, BrrrError):
        return cause
    ours = _translate(error, server)
    if ours.__cause__ is None:
        ours.__cause__ = cause
    return ours


def _translate(error: Exception, server: str) -> BrrrError:
    if not isinstance(error, NoReplyError):
        return _refused(error, server) or BackendError(
            f"redis at {server} refused the operation ({error})", remedy="Read its reply, and the server's log."
        )
    cause = error.cause
    reason = str(cause) or type(cause).__name__
    if _refuses_certificate(cause):
        return BackendRefusedError(
            f"redis at {server} and this client do not accept each other's certificates ({reason})",
            remedy="Check ca, cert and key, and that the certificate of the server has its name and has not expired.",
        )
    if error.sent:
        return BackendUnavailableError(
            f"the connection to redis at {server} was lost before the reply came ({reason})",
            remedy="The operation may have taken effect. Check before you repeat it.",
        )
    kind = BackendRefusedError if isinstance(cause, REFUSALS) else BackendUnavailableError
    return _refused(cause, server) or kind(
        f"redis at {server} cannot be reached ({reason})",
        remedy="Check that the server runs and that the URL names it.",
    )


def _refused(error: Exception, server: str) -> BrrrError | None:
    """Return the error of a server that refuses a command or a connection, or None for another error."""
    for codes, kind in (
        (LOGIN_REFUSED, BackendRefusedError),
        (UNAVAILABLE, BackendUnavailableError),
        (TRANSIENT, BackendUnavailableError),
    ):
        code = _code_in(error, codes)
        if code is not None:
            what, remedy = codes[code]
            return kind(f"redis at {server} {what}", remedy=f"{remedy}.")
    if TOO_MANY_CLIENTS in str(error):
        return BackendUnavailableError(
            f"redis at {server} accepts no more connections: all of its maxclients are in use",
            remedy="Raise maxclients, or run fewer processes.",
        )
    if _code_in(error, ("NOPERM",)) or any(each in str(error) for each in DENIED_IN_SCRIPT):
        return BackendError(
            f"redis at {server} does not permit a command that brrr needs ({error})",
            remedy="Grant the user the commands and keys under 'Permissions' in the README.md of brrr-redis.",
        )
    if _code_in(error, ("CROSSSLOT",)):
        return cluster_member_error(server)
    if _code_in(error, ("WRONGTYPE",)):
        return BackendError(
            f"redis at {server} has a value of another type under a key that brrr needs",
            remedy="Another program uses the name of this topic or record. Set `prefix`, or use another database.",
        )
    return None


def _code_in(error: Exception, codes: "dict[str, tuple[str, str]] | tuple[str, ...]") -> str | None:
    """Return the code of an error reply if it is one of `codes`."""
    given, text = CODE_BY_CLASS.get(type(error)), str(error)
    if isinstance(error, AuthenticationError):
        given = "NOAUTH" if "required" in text else "WRONGPASS"
    for code in codes:
        # Redis 6.2 wraps the error of a script: "Error running script (…): @user_script: 3: -READONLY You can't".
        if given == code or text.startswith(f"{code} ") or f"-{code} " in text:
            return code
    return None
