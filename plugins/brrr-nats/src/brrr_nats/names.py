"""Names: any text as one token of a subject, which may also name a consumer or a stream; and keys of records.

Full stops separate the tokens of a subject; `*`, `>` and white space have a meaning in it, and names of consumers
become file names. So ASCII letters, digits, `_` and `-` stay as they are. Any other byte of the text's UTF-8 form
becomes `=` and two hexadecimal digits, and the empty text becomes `=`. A longer token is `==` and the text's SHA-256,
since subjects must fit into the servers' control lines (4 KiB) and names into 255 bytes. Different texts have different
tokens.
"""

import re
from hashlib import sha256
from typing import Final

from brrr_core.backend import Key, NameEscape, encode_text

__all__ = ["MAX_TOKEN_BYTES", "TOKENS", "Bucket", "token_of"]

MAX_TOKEN_BYTES: Final = 120
"""The longest token in bytes that is not a digest."""

PART_KIND: Final = "part"
"""The word in place of the kind of a record."""

PLAIN: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_TOKEN_BYTES}}}")
TOKENS: Final = NameEscape("=", cut="==")


def token_of(text: str, what: str) -> str:
    """Return the token of a text. `what` names the text in errors, such as `the topic`.

    Raises:
        ArgumentError: The text has no UTF-8 form.
    """
    if PLAIN.fullmatch(text):
        return text
    encoded = encode_text(text, what)
    token = TOKENS.escape(text) or "="
    return token if len(token) <= MAX_TOKEN_BYTES else f"=={sha256(encoded).hexdigest()}"


class Bucket:
    """Names in one key-value bucket (ADR-8).

    A record has the key `KIND.TOKEN`; TOKEN is its call hash as a token. A part of a large value has the key
    `part.KIND.TOKEN.CONTENT.NUMBER`.

    Attributes:
        stream: The JetStream stream that holds it.
        subjects: The subjects of all its keys.
        parts: The subjects of all parts.
    """

    def __init__(self, name: str) -> None:
        self.stream = f"KV_{name}"
        self.subjects = f"$KV.{name}.>"
        self.parts = f"$KV.{name}.{PART_KIND}.>"
        self._prefix = f"$KV.{name}."

    def subject(self, key: Key) -> str:
        """Return the subject of a record."""
        return f"{self._prefix}{key.kind}.{token_of(key.call_hash, 'the call hash')}"

    def part(self, subject: str, content: str, number: int) -> str:
        """Return the subject of a part of a record's value."""
        return f"{self._prefix}{PART_KIND}.{subject[len(self._prefix) :]}.{content}.{number}"

    def owner_of(self, part: str) -> tuple[str, str]:
        """Return the subject of the record that a part belongs to, and the part's content."""
        key, content, _ = part[len(self._prefix) + len(PART_KIND) + 1 :].rsplit(".", 2)
        return self._prefix + key, content
