"""Exit codes, and which error ends with which."""

from enum import IntEnum
from typing import Final

from brrr_core.errors import (
    ArgumentError,
    BuriedError,
    CommandError,
    ContractError,
    NotFoundError,
    NotInstalledError,
    OptionError,
    ResultTimeoutError,
    RoleError,
    SignatureError,
    UnknownSchemeError,
    UnknownTaskError,
    UrlError,
)

__all__ = ["ExitCode", "exit_code_of", "killed_by"]


class ExitCode(IntEnum):
    """What scripts may rely on. A command that a signal ends exits with 128 and the signal's number."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    TIMEOUT = 4
    BURIED = 5


KINDS: Final = (
    (ResultTimeoutError, ExitCode.TIMEOUT),  # before NotFoundError, of which it is a kind
    (NotFoundError, ExitCode.NOT_FOUND),
    (BuriedError, ExitCode.BURIED),
    (CommandError, ExitCode.USAGE),
    (ContractError, ExitCode.USAGE),
    (UrlError, ExitCode.USAGE),
    (OptionError, ExitCode.USAGE),
    (RoleError, ExitCode.USAGE),
    (UnknownSchemeError, ExitCode.USAGE),
    (NotInstalledError, ExitCode.USAGE),
    (ArgumentError, ExitCode.USAGE),
    (SignatureError, ExitCode.USAGE),
    (UnknownTaskError, ExitCode.USAGE),
)


def exit_code_of(error: BaseException) -> ExitCode:
    """The code for what a command raised; `FAILURE` for all that is no fault of the command line."""
    return next((code for kind, code in KINDS if isinstance(error, kind)), ExitCode.FAILURE)


def killed_by(number: int) -> int:
    """The exit code of a command that the signal of that number ended, as shells have it."""
    return 128 + number
