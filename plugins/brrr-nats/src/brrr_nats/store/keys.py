"""Names of records: keys of a NATS key-value bucket, which other tools can read.

A record has the key `KIND.TOKEN`; TOKEN is its call hash, encoded by `tokens`. A part of a large value has the key
`part.KIND.TOKEN.CONTENT.NUMBER`.
"""

from typing import Final

from brrr_core.backend import Key
from brrr_nats.tokens import token_of

__all__ = ["Bucket"]

PART_KIND: Final = "part"
"""The word in place of the kind of a record."""


class Bucket:
    """Names in one key-value bucket (ADR-8).

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
        self.parts = f"$KV.{name}.{PART_KIND}.>"
        self._prefix = f"$KV.{name}."

    def subject(self, key: Key) -> str:
        """Return the subject of a record."""
        return f"{self._prefix}{key.kind}.{token_of(key.call_hash, 'the call hash')}"

    def part(self, subject: str, content: str, number: int) -> str:
        """Return the subject of a part of a record's value."""
        return f"{self._prefix}{PART_KIND}.{subject[len(self._prefix) :]}.{content}.{number}"

    def record_of(self, part: str) -> tuple[str, str]:
        """Return the subject of the record that a part belongs to, and the part's content."""
        key, content, _ = part[len(self._prefix) + len(PART_KIND) + 1 :].rsplit(".", 2)
        return self._prefix + key, content
