"""Names for servers: text as UTF-8, and any text as a name that a server accepts."""

import re
from base64 import b32encode
from hashlib import sha256

from brrr_core.errors import ArgumentError

__all__ = ["NameEscape", "encode_text"]

HASH_CHARS = 26
"""Characters of the hash in a name that was cut: 130 bits."""


def encode_text(text: str, what: str) -> bytes:
    """Return the text as UTF-8. `what` names it in the error, such as `the topic`.

    Raises:
        ArgumentError: The text contains half of a surrogate pair, which UTF-8 cannot encode.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ArgumentError(
            f"{what} {text!r} contains half of a surrogate pair", remedy="Pass text that UTF-8 can encode."
        ) from error


class NameEscape:
    """Makes a name of any text. Different texts have different names, and short ones can be read back.

    Letters and digits stay. Each byte of the UTF-8 form of other characters becomes `mark` and two hexadecimal digits.
    A longer name is cut. It ends with `cut` and a hash of the whole text.

    Args:
        mark: Begins an escape.
        cut: Separates the hash. No escaped text contains it.
        unsafe: Matches the characters to escape. It must match a `mark` that does not begin an escape.
    """

    def __init__(self, mark: str, *, cut: str, unsafe: str = "[^A-Za-z0-9_-]") -> None:
        self._mark = mark
        self._cut = cut
        self._unsafe = re.compile(unsafe)
        self._escaped = re.compile(f"(?:{re.escape(mark)}[0-9a-f]{{2}})+")

    def escape(self, text: str) -> str:
        """Return the whole text with escapes."""
        return self._unsafe.sub(self._escape, text)

    def name(self, text: str, *, longest: int) -> str:
        """Return the name of a text, with at most `longest` characters."""
        name = self.escape(text)
        if len(name) <= longest:
            return name
        digest = b32encode(sha256(text.encode(errors="surrogatepass")).digest()).decode().lower()[:HASH_CHARS]
        kept = name[: longest - len(self._cut) - HASH_CHARS].rstrip(self._cut[0])
        return f"{kept}{self._cut}{digest}"

    def unescape(self, name: str) -> str | None:
        """Return the text of a name, or None if the name was cut."""
        return None if self._cut in name else self._escaped.sub(self._unescape, name)

    def _escape(self, unsafe: re.Match[str]) -> str:
        return "".join(f"{self._mark}{byte:02x}" for byte in unsafe[0].encode(errors="surrogatepass"))

    def _unescape(self, escaped: re.Match[str]) -> str:
        return bytes.fromhex(escaped[0].replace(self._mark, "")).decode(errors="surrogatepass")
