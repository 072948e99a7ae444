"""Report a failed command: one line with code and remedy, JSON with --json, a traceback with -v."""

import json
import sys
from collections.abc import Sequence
from typing import cast

from brrr_core.cli.secrets import Secrets
from brrr_core.errors import BrrrError
from brrr_core.safe_text import describe, format_traceback, sentence

__all__ = ["first_error", "has_switch", "one_line", "report"]


def has_switch(tokens: Sequence[str], *names: str) -> bool:
    """Whether a command line has one of the switches. The command line need not be valid."""
    options = tokens[: tokens.index("--")] if "--" in tokens else tokens
    return any(name in options for name in names)


def report(error: BaseException, tokens: Sequence[str], *, hint: str = "") -> None:
    """Write an error to the standard error.

    Args:
        error: The error.
        tokens: The command line, for its `--json` and `-v`, and for the URLs whose secrets are masked.
        hint: A text to put before the remedy.
    """
    secrets = Secrets(tokens)
    if has_switch(tokens, "--verbose", "-v"):
        sys.stderr.write(secrets.mask(format_traceback(error)))
    if isinstance(error, BrrrError):
        code, what, remedy = error.code, error.what, error.remedy
    else:
        code, what = BrrrError.code, f"unexpected {describe(error)}"
        remedy = "This may be a bug. Run the command with -v to see the traceback."
    what, remedy = secrets.mask(one_line(what)), secrets.mask(one_line(f"{hint} {remedy}"))
    if has_switch(tokens, "--json"):
        text = json.dumps({"error": {"code": code, "what": what, "remedy": remedy}}, ensure_ascii=False)
    else:
        text = f"brrr: [{code}] {sentence(what)} {remedy}".rstrip()
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
