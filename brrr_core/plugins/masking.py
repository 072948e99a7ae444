"""Masks secrets in the messages and tracebacks of client libraries."""

import base64
import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final

from brrr_core.backend.options import MASK
from brrr_core.safe_text import Mask

__all__ = ["masking"]

ESCAPED: Final = "'\"\\"
SHORT: Final = 4
"""A shorter secret is masked only as a whole word, and not inside base64 or hexadecimal: the text would be unreadable.

If it consists of letters alone, or of digits alone, it can also be a word or a number of the text, as in `has a
manifest` or `within 10 s`. Then it is masked only as a value: in quotes, after `=`, `:` or a command in
capitals such as `AUTH`, and before `@`."""

WORD_BEGINS: Final = r"(?:(?<![^\W\d_])|(?<=\\[abfnrtv])|(?<=%[0-9A-Fa-f]{2}))"
"""A word begins after anything but a letter, and after an escaped character such as `\\n` or `%2F`."""

LONG: Final = 8
"""A shorter secret of letters alone is masked only as a whole word, so that `test` does not hide a part of `latest`."""

BASE64: Final = "[A-Za-z0-9+/_-]"
URL_SAFE: Final = str.maketrans("+/", "-_")


def masking(secrets: Iterable[str]) -> Mask:
    """Return a function that replaces each secret in a text by `****`.

    Args:
        secrets: The plain secrets. The function finds each one as plain text, percent-encoded, and escaped as in Python
            or JSON. It also finds a secret that is not short inside base64 or hexadecimal, such as an HTTP login.
    """
    # Each secret as it is, and on one line.
    texts = {form for secret in secrets for form in (secret, " ".join(secret.split())) if form}
    longest_first = sorted(texts, key=lambda text: (-len(text), text))
    patterns = [
        *map(_plain_pattern, longest_first),
        *(pattern for text in longest_first for pattern in _encoded_patterns(text)),
    ]
    pattern = re.compile("|".join(patterns) or r"(?!)")
    return partial(pattern.sub, MASK)


def _plain_pattern(text: str) -> str:
    pattern = "".join(map(_character_pattern, text))
    if len(text) < SHORT and (text.isalpha() or text.isdecimal()):
        quoted = "|".join(rf"(?<={quote}){pattern}(?={quote})" for quote in "'\"`")
        return rf"(?<=[=:]){pattern}(?!\w)|(?<=[A-Z]\s){pattern}(?!\w)|(?<!\w){pattern}(?=@)|{quoted}"
    if len(text) < SHORT:
        return rf"(?<!\w){pattern}(?!\w)"
    if len(text) < LONG and text.isalpha():
        return rf"{WORD_BEGINS}{pattern}(?![^\W\d_])"
    return pattern


def _encoded_patterns(text: str) -> Iterator[str]:
    """Yield patterns for the text in hexadecimal, and in base64 at each offset modulo 3 from its start."""
    data = text.encode("utf-8", "surrogatepass")
    if len(data) < SHORT:
        return
    yield f"(?i:{data.hex()})"
    for before in range(3):
        bits = before * 8, (before + len(data)) * 8
        whole = base64.b64encode(bytes(before) + data).decode()[-(-bits[0] // 6) : bits[1] // 6]
        for spelling in sorted({whole, whole.translate(URL_SAFE)}):
            yield f"{BASE64}?{re.escape(spelling)}{BASE64}?=*"  # the outer characters share bits with others


def _character_pattern(character: str) -> str:
    import json

    encoded = "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    shown = {character, repr(character)[1:-1], ascii(character)[1:-1], json.dumps(character)[1:-1]}
    if character in ESCAPED:
        shown.add(f"\\{character}")
    forms = [f"(?i:{encoded})", *map(re.escape, sorted(shown, key=len, reverse=True))]
    if character == " ":
        forms.append(r"\+")
    return f"(?:{'|'.join(forms)})"
