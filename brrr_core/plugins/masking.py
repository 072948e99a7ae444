"""Masks secrets in texts that others wrote: messages and tracebacks of client libraries."""

import base64
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from brrr_core.backend.options import MASK

__all__ = ["masking"]

ESCAPED: Final = "'\"\\"
SHORT: Final = 4
"""A secret of fewer characters is masked as a word only; without every `a` in it, no text can be read."""

BASE64: Final = "[A-Za-z0-9+/_-]"
URL_SAFE: Final = str.maketrans("+/", "-_")


def masking(secrets: Iterable[str]) -> Callable[[str], str]:
    """A function that puts `****` for each secret in a text.

    Args:
        secrets: As they are. In the text they may be plain, percent-encoded, escaped as Python or JSON do, or, if they
            are not short, part of what was encoded as base64 or hexadecimal (a login of HTTP, for example).
    """
    texts = {form for secret in secrets for form in (secret, " ".join(secret.split())) if form}  # the one of one line
    longest_first = sorted(texts, key=lambda text: (-len(text), text))
    patterns = [*map(_spelled, longest_first), *(pattern for text in longest_first for pattern in _encoded(text))]
    pattern = re.compile("|".join(patterns) or r"(?!)")
    return partial(pattern.sub, MASK)


def _spelled(text: str) -> str:
    pattern = "".join(map(_character, text))
    return pattern if len(text) >= SHORT else rf"(?<!\w){pattern}(?!\w)"


def _encoded(text: str) -> Iterator[str]:
    """Patterns of the text inside hexadecimal and base64, which depends on the number of bytes before it, modulo 3."""
    data = text.encode("utf-8", "surrogatepass")
    if len(data) < SHORT:
        return
    yield f"(?i:{data.hex()})"
    for before in range(3):
        bits = before * 8, (before + len(data)) * 8
        whole = base64.b64encode(bytes(before) + data).decode()[-(-bits[0] // 6) : bits[1] // 6]
        for spelling in sorted({whole, whole.translate(URL_SAFE)}):
            yield f"{BASE64}?{re.escape(spelling)}{BASE64}?=*"  # the outer two hold some of its bits


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
