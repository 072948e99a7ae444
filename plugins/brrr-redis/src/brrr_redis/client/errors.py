"""What the errors of servers and connections mean: to whoever tries again, and to a user."""

import re
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

from brrr_core.errors import BackendClosedError, BackendError, BackendRefusedError, BackendUnavailableError, BrrrError

__all__ = [
    "ConnectionClosedError",
    "NoPrimaryError",
    "NoReplyError",
    "WrongTopologyError",
    "closed_error",
    "cluster_member_error",
    "is_transient",
    "may_have_moved",
    "no_primary_error",
    "redact",
    "translate",
]

TRANSIENT: Final = {
    "LOADING": ("is still loading its data", "Wait, or raise retry_for"),
    "READONLY": ("is a replica, and takes no writes", "Name the primary, or use redis+sentinel: or redis+cluster:"),
    "MASTERDOWN": ("is a replica that has lost its primary", "Wait for the failover, or raise retry_for"),
    "CLUSTERDOWN": ("is part of a cluster that is down", "See CLUSTER INFO; every slot needs a primary that is up"),
    "TRYAGAIN": ("is moving a slot", "Wait, or raise retry_for"),
    "BUSY": ("is busy running a script", "See which one, with SLOWLOG; SCRIPT KILL ends it"),
    "NOREPLICAS": ("has too few replicas to take writes", "Bring the replicas up, or lower min-replicas-to-write"),
    "UNBLOCKED": ("ended a command that blocked", "Wait for the failover"),
}
"""Answers after which nothing was done, and after which the same command may succeed."""

UNAVAILABLE: Final = {
    "OOM": ("is full: its maxmemory is used up", "Raise maxmemory, or give records a ttl; nothing was stored"),
    "MISCONF": ("cannot save its data, and takes no writes", "See the server's log and its disk"),
}
"""Answers by which the server is not available to us until somebody mends it."""

LOGIN_REFUSED: Final = {
    "NOAUTH": ("asks for a login", "Give one: redis://USER@HOST?password_env=NAME"),
    "WRONGPASS": ("refuses the login", "Check the user's name and the password"),
}
"""Answers by which the server does not let us in."""

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
"""The codes that redis-py turns into classes, and cuts from the answer's text."""

WRONG_SERVER: Final = ("READONLY", "CLUSTERDOWN", "MASTERDOWN", "UNBLOCKED")
TOO_MANY_CLIENTS: Final = "max number of clients"
DENIED_IN_SCRIPT: Final = ("ACL failure in script: ", "The user executing the script can't ")
"""What stands for NOPERM where a script's command is not permitted: since Redis 7, and before."""

SENT_SECRETS: Final = re.compile(r",? with args beginning with.*|(?<=\buser )\S+(?= has )", re.IGNORECASE | re.DOTALL)
"""What answers repeat of what was sent: arguments, which can be a password; a user's name, which can be a token."""


class ConnectionClosedError(RedisError):
    """We closed the connection ourselves."""

    def __str__(self) -> str:
        return "the connection was closed"


class NoReplyError(Exception):
    """There will be no answer.

    Args:
        cause: Why.
        sent: Whether the command may have reached the server, and may have been done.
    """

    def __init__(self, cause: Exception, *, sent: bool) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.sent = sent


class NoPrimaryError(RedisError):
    """Nobody could say which server is the primary."""


class WrongTopologyError(NoPrimaryError):
    """The servers that answered are not such as the URL says."""


REFUSALS: Final = (WrongTopologyError, AuthenticationError, ResponseError)
"""Errors of connecting by which a server answers, and does not let us in."""


def no_primary_error(what: str, failures: Mapping[Any, Exception]) -> NoPrimaryError:
    """Return the error for servers that all failed: by server, why."""
    unfit = all(isinstance(error, REFUSALS) for error in failures.values())
    told = "; ".join(f"{server}: {error}" for server, error in failures.items())
    ours = (WrongTopologyError if unfit else NoPrimaryError)(f"{what}: {told}")
    ours.__cause__ = [*failures.values()][-1]
    return ours


def redact(error: BaseException) -> None:
    """Take what is not for logs from what a server says, and from all that this was raised from."""
    found: BaseException | None = error
    while found is not None:
        found.args = tuple(SENT_SECRETS.sub(_mask, each) if isinstance(each, str) else each for each in found.args)
        found = found.__cause__ or found.__context__


def _mask(secret: re.Match[str]) -> str:
    return "" if "with args" in secret[0].lower() else "****"


def closed_error() -> BackendClosedError:
    """The error of a backend that is not open any more."""
    return BackendClosedError("this backend was closed", remedy="Use it inside `async with`.")


def cluster_member_error(where: str) -> BackendError:
    """The error of a server that is one of a cluster, and is not used as one."""
    return BackendError(
        f"redis at {where} is one server of a cluster, and others have some of the keys",
        remedy="Use redis+cluster: in the URL.",
    )


def is_transient(error: Exception) -> bool:
    """Whether the same command may succeed a little later, as far as the server is concerned."""
    if isinstance(error, NoReplyError):
        return not isinstance(error.cause, AuthenticationError)
    return _code_in(error, TRANSIENT) is not None


def may_have_moved(error: Exception) -> bool:
    """Whether another server may be the right one by now."""
    return isinstance(error, NoReplyError) or _code_in(error, WRONG_SERVER) is not None


def translate(error: Exception, where: str) -> BrrrError:
    """The error for the user, with its cause. `where` names the server."""
    if isinstance(error, BrrrError):
        return error
    ours = _translate(error, where)
    if ours.__cause__ is None:
        ours.__cause__ = error.cause if isinstance(error, NoReplyError) else error
    return ours


def _translate(error: Exception, where: str) -> BrrrError:
    if not isinstance(error, NoReplyError):
        return _refused(error, where) or BackendError(
            f"redis at {where} did not take the operation ({error})", remedy="See what it says, and the server's log."
        )
    cause = error.cause
    if isinstance(cause, BrrrError):
        return cause
    said = str(cause) or type(cause).__name__
    if error.sent:
        return BackendUnavailableError(
            f"the connection to redis at {where} was lost before the answer came ({said})",
            remedy="What was asked for may have been done; look before you ask again.",
        )
    kind = BackendRefusedError if isinstance(cause, REFUSALS) else BackendUnavailableError
    return _refused(cause, where) or kind(
        f"redis at {where} cannot be reached ({said})", remedy="Check that it runs, and that the URL names it."
    )


def _refused(error: Exception, where: str) -> BrrrError | None:
    """The error of a server that answered, or of one that takes no connection; None for any other."""
    for codes, kind in (
        (LOGIN_REFUSED, BackendRefusedError),
        (UNAVAILABLE, BackendUnavailableError),
        (TRANSIENT, BackendUnavailableError),
    ):
        code = _code_in(error, codes)
        if code is not None:
            what, remedy = codes[code]
            return kind(f"redis at {where} {what}", remedy=f"{remedy}.")
    if TOO_MANY_CLIENTS in str(error):
        return BackendUnavailableError(
            f"redis at {where} has as many clients as it takes", remedy="Raise maxclients, or run fewer processes."
        )
    if _code_in(error, ("NOPERM",)) or any(each in str(error) for each in DENIED_IN_SCRIPT):
        return BackendError(
            f"redis at {where} does not permit what brrr needs ({error})",
            remedy="Give its user the commands and keys that README.md lists.",
        )
    if _code_in(error, ("CROSSSLOT",)):
        return cluster_member_error(where)
    if _code_in(error, ("WRONGTYPE",)):
        return BackendError(
            f"redis at {where} keeps something else under a key that brrr needs",
            remedy="Another programme uses the name of this topic or record; give brrr a prefix, or another database.",
        )
    return None


def _code_in(error: Exception, codes: "dict[str, tuple[str, str]] | tuple[str, ...]") -> str | None:
    """The code of an answer, if it is one of these."""
    given, text = CODE_BY_CLASS.get(type(error)), str(error)
    if isinstance(error, AuthenticationError):
        given = "NOAUTH" if "required" in text else "WRONGPASS"
    for code in codes:
        # Redis 6.2 wraps what went wrong in a script: "Error running script (…): @user_script: 3: -READONLY You can't".
        if given == code or text.startswith(f"{code} ") or f"-{code} " in text:
            return code
    return None
