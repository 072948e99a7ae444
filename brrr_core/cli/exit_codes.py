"""Exit codes, and the exit code of each error."""

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

__all__ = ["ExitCode", "exit_code_of", "signal_exit_code"]


class ExitCode(IntEnum):
    """Exit codes for scripts. A command that a signal ends exits with 128 plus the signal's number."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    TIMEOUT = 4
    BURIED = 5


KINDS: Final = (
    (ResultTimeoutError, ExitCode.TIMEOUT),  # before its base class NotFoundError
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
    """Return the exit code for an error; `FAILURE` unless the command line caused it."""
    return next((code for kind, code in KINDS if isinstance(error, kind)), ExitCode.FAILURE)


def signal_exit_code(number: int) -> int:
    """Return the exit code of a command that this signal ended, as shells report it."""
    return 128 + number
