"""Masks secrets in texts that others wrote: messages and tracebacks of client libraries."""

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from brrr_core.backend.options import MASK

__all__ = ["masking"]

ESCAPED: Final = "'\"\\"
SHORT: Final = 4
"""A secret of fewer characters is masked as a word only; without every `a` in it, no text can be read."""


def masking(secrets: Iterable[str]) -> Callable[[str], str]:
    """A function that puts `****` for each secret in a text.

    Args:
        secrets: As they are; in the text they may be plain, percent-encoded, or escaped as Python or JSON do.
    """
    texts = {form for secret in secrets for form in (secret, " ".join(secret.split())) if form}  # the one of one line
    longest_first = sorted(texts, key=lambda text: (-len(text), text))
    pattern = re.compile("|".join(map(_spelled, longest_first)) or r"(?!)")
    return partial(pattern.sub, MASK)


def _spelled(text: str) -> str:
    pattern = "".join(map(_character, text))
    return pattern if len(text) >= SHORT else rf"(?<!\w){pattern}(?!\w)"


def _character(character: str) -> str:
    import json

    encoded = "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    shown = {character, repr(character)[1:-1], ascii(character)[1:-1], json.dumps(character)[1:-1]}
    if character in ESCAPED:
        shown.add(f"\\{character}")
    forms = [f"(?i:{encoded})", *map(re.escape, sorted(shown, key=len, reverse=True))]
    if character == " ":
        forms.append(r"\+")
    return f"(?:{'|'.join(forms)})"
