"""How a command tells of its failure: one line with code and remedy, JSON where a machine reads, a traceback on ask."""

import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import cast

from brrr_core.backend.options import MASK
from brrr_core.errors import BrrrError, UrlError
from brrr_core.plugins import mask_url, parse_url
from brrr_core.plugins.roles import VARIABLES

__all__ = ["first_error", "masked", "one_line", "report", "switched_on"]


def switched_on(tokens: Sequence[str], *names: str) -> bool:
    """Whether a switch is on a command line, be that well-formed or not."""
    options = tokens[: tokens.index("--")] if "--" in tokens else tokens
    return any(name in options for name in names)


def report(error: BaseException, tokens: Sequence[str]) -> None:
    """Write an error to the standard error.

    Args:
        error: What was raised.
        tokens: The command line, for its `--json` and `-v`, and for the URLs whose secrets are masked.
    """
    if switched_on(tokens, "--verbose", "-v"):
        sys.stderr.write(masked("".join(traceback.format_exception(error)), tokens))
    if isinstance(error, BrrrError):
        code, what, remedy = error.code, error.what, error.remedy
    else:
        code, what = BrrrError.code, f"unexpected {type(error).__name__}: {error}"
        remedy = "Run it with -v for the traceback; this may be a bug."
    what, remedy = masked(one_line(what), tokens), masked(one_line(remedy), tokens)
    if switched_on(tokens, "--json"):
        text = json.dumps({"error": {"code": code, "what": what, "remedy": remedy}}, ensure_ascii=False)
    else:
        text = f"brrr: [{code}] {what}. {remedy}".rstrip()
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


def masked(text: str, tokens: Sequence[str]) -> str:
    """The text without the secrets of the URLs on a command line and in the environment.

    Errors of ours hold none; those of client libraries, in a traceback, may.
    """
    for url in _urls(tokens):
        text = text.replace(url, mask_url(url))
        try:
            password = parse_url(url).url.password
        except UrlError:
            continue
        if password is not None:
            text = text.replace(password.reveal(), MASK)
    return text


def _urls(tokens: Sequence[str]) -> Iterator[str]:
    words = [token.partition("=")[2] if token.startswith("-") else token for token in tokens]
    return (word for word in (*words, *map(os.environ.get, VARIABLES.values())) if word and "://" in word)
