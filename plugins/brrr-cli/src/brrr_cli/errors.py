"""A failed command: its exit code, and its report as a line, as JSON, with a traceback and with a guess at a typo."""

import json
import re
import sys
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, cast

from cyclopts import App

from brrr_cli.secrets import Secrets
from brrr_core.errors import (
    ArgumentError,
    BrrrError,
    BuriedError,
    CallFailedError,
    CommandError,
    ContractError,
    NotFoundError,
    NotInstalledError,
    OptionError,
    ResultTimeoutError,
    RoleError,
    ScheduleCancelledError,
    SignatureError,
    UnknownSchemeError,
    UnknownTaskError,
    UnknownTopicError,
    UrlError,
)
from brrr_core.safe_text import describe, format_traceback, sentence, without_controls

__all__ = ["ExitCode", "exit_code_of", "first_error", "one_line", "report", "signal_exit_code", "suggest_options"]

TAKE_ARGUMENTS: Final = ("schedule", "result", "status", "complete", "cancel", "retry")
"""The commands that take an unknown option as an argument of the task."""

OPTION: Final = re.compile(r"(--[^\W\d][\w-]*)(?:=.*)?", re.DOTALL)


class ExitCode(IntEnum):
    """Exit codes for scripts. A command that a signal ends exits with 128 plus the signal's number."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    TIMEOUT = 4
    BURIED = 5
    CALL_FAILED = 6


USAGE: Final = (ArgumentError, CommandError, ContractError, NotInstalledError, OptionError, RoleError, SignatureError,
                UnknownSchemeError, UnknownTaskError, UrlError)  # fmt: skip
KINDS: Final = (
    (ResultTimeoutError, ExitCode.TIMEOUT),  # before its base class NotFoundError
    ((NotFoundError, UnknownTopicError), ExitCode.NOT_FOUND),
    ((BuriedError, ScheduleCancelledError), ExitCode.BURIED),
    (CallFailedError, ExitCode.CALL_FAILED),
    (USAGE, ExitCode.USAGE),
)


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code for an error; `FAILURE` unless the command line caused it."""
    return next((code for kind, code in KINDS if isinstance(error, kind)), ExitCode.FAILURE)


def signal_exit_code(number: int) -> int:
    """Return the exit code of a command that this signal ended, as shells report it."""
    return 128 + number


def report(error: BaseException, tokens: Sequence[str], *, hint: str = "") -> None:
    """Write an error to the standard error.

    Args:
        error: The error.
        tokens: The command line, for its `--json` and `-v`, and for the URLs whose secrets are masked.
        hint: A text to put before the remedy.
    """
    secrets = Secrets(tokens)
    if _has_switch(tokens, "--verbose", "-v"):
        sys.stderr.write(format_traceback(error, mask=secrets.mask))
    if isinstance(error, BrrrError):
        code, what, remedy = error.code, error.what, error.remedy
    else:
        code, what = BrrrError.code, f"unexpected {describe(error, mask=secrets.mask)}"
        remedy = "This may be a bug. Run the command with -v to see the traceback."
    what, remedy = secrets.mask(one_line(what)), secrets.mask(one_line(f"{hint} {remedy}"))
    if _has_switch(tokens, "--json"):
        text = json.dumps({"error": {"code": code, "what": what, "remedy": remedy}}, ensure_ascii=False)
    else:
        text = without_controls(f"brrr: [{code}] {sentence(what)} {remedy}").rstrip()
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def first_error(error: BaseException) -> BaseException:
    """Return the first error within groups of errors: loops that fail together fail for one reason."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


def one_line(text: str) -> str:
    """Return the text without line breaks."""
    return " ".join(text.split())


def suggest_options(app: App, tokens: Sequence[str]) -> str:
    """Return a question for each keyword argument that is nearly an option of the command, or an empty text.

    Arguments after `--` are never questioned.

    Args:
        app: All commands.
        tokens: The command line.
    """
    if not tokens or tokens[0] not in TAKE_ARGUMENTS:
        return ""
    options = sorted({name for each in app[tokens[0]].assemble_argument_collection() for name in each.names})
    options = [option for option in options if option.startswith("--")]
    ours = tokens[1 : tokens.index("--")] if "--" in tokens else tokens[1:]
    written = [match[1] for match in map(OPTION.fullmatch, ours) if match is not None and match[1] not in options]
    nearest = {each: next((option for option in options if _differ_by_one_typo(each, option)), "") for each in written}
    return " ".join(
        f"Did you mean {near}? {each} is an argument of the task." for each, near in nearest.items() if near
    )


def _has_switch(tokens: Sequence[str], *names: str) -> bool:
    """Whether a command line has one of the switches. The command line need not be valid."""
    options = tokens[: tokens.index("--")] if "--" in tokens else tokens
    return any(name in options for name in names)


def _differ_by_one_typo(one: str, other: str) -> bool:
    """Whether two words differ by one missing, extra or wrong letter, or by two swapped letters."""
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    one, other = one[at:], other[at:]
    swapped = one[:2] == other[1::-1] and one[2:] == other[2:]
    return swapped or one[1:] == other or one == other[1:] or one[1:] == other[1:]
