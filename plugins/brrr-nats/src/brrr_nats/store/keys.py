"""The names of records: keys of a NATS key-value bucket, which other tools can read.

A record is the key `KIND.TOKEN`, TOKEN being its call hash as `tokens` writes it. The parts of a value that is larger
than a message are `part.KIND.TOKEN.CONTENT.NUMBER`.
"""

from typing import Final

from brrr_core.backend import Key
from brrr_nats.tokens import token_of

__all__ = ["Bucket"]

PARTS: Final = "part"
"""Stands where the kind of a record does."""


class Bucket:
    """Where the records of one key-value bucket are (ADR-8).

    Args:
        name: The bucket's name.

    Attributes:
        name: The bucket's name.
        stream: The JetStream stream that holds it.
        subjects: The subjects of all its keys.
        parts: The subjects of all parts.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.stream = f"KV_{name}"
        self.subjects = f"$KV.{name}.>"
        self.parts = f"$KV.{name}.{PARTS}.>"
        self._prefix = f"$KV.{name}."

    def subject(self, key: Key) -> str:
        """The subject of a record."""
        return f"{self._prefix}{key.kind}.{token_of(key.call_hash, 'the call hash')}"

    def part(self, subject: str, content: str, number: int) -> str:
        """The subject of a part of a record's value."""
        return f"{self._prefix}{PARTS}.{subject[len(self._prefix) :]}.{content}.{number}"

    def whole(self, part: str) -> tuple[str, str]:
        """The subject of the record that a part was made for, and the part's content."""
        key, content, _ = part[len(self._prefix) + len(PARTS) + 1 :].rsplit(".", 2)
        return self._prefix + key, content
