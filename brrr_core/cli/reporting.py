"""How a command tells of its failure: one line with code and remedy, JSON where a machine reads, a traceback on ask."""

import json
import sys
from collections.abc import Sequence
from typing import cast

from brrr_core.cli.secrets import Secrets
from brrr_core.errors import BrrrError, sentence
from brrr_core.safe_text import describe, format_traceback

__all__ = ["first_error", "one_line", "report", "switched_on"]


def switched_on(tokens: Sequence[str], *names: str) -> bool:
    """Whether a switch is on a command line, be that well-formed or not."""
    options = tokens[: tokens.index("--")] if "--" in tokens else tokens
    return any(name in options for name in names)


def report(error: BaseException, tokens: Sequence[str], *, hint: str = "") -> None:
    """Write an error to the standard error.

    Args:
        error: What was raised.
        tokens: The command line, for its `--json` and `-v`, and for the URLs whose secrets are masked.
        hint: What the remedy begins with besides.
    """
    secrets = Secrets(tokens)
    if switched_on(tokens, "--verbose", "-v"):
        sys.stderr.write(secrets.mask(format_traceback(error)))
    if isinstance(error, BrrrError):
        code, what, remedy = error.code, error.what, error.remedy
    else:
        code, what = BrrrError.code, f"unexpected {describe(error)}"
        remedy = "Run it with -v for the traceback; this may be a bug."
    what, remedy = secrets.mask(one_line(what)), secrets.mask(one_line(f"{hint} {remedy}"))
    if switched_on(tokens, "--json"):
        text = json.dumps({"error": {"code": code, "what": what, "remedy": remedy}}, ensure_ascii=False)
    else:
        text = f"brrr: [{code}] {sentence(what)} {remedy}".rstrip()
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def first_error(error: BaseException) -> BaseException:
    """The first error within groups of errors: loops that fail together fail for one reason."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


def one_line(text: str) -> str:
    """The text without its line breaks."""
    return " ".join(text.split())
