"""Bodies as SQS carries them: text where it is text that survives, base64 with an attribute where it is not.

A message of SQS is text of the characters of XML 1.0, of at least one. What else it is sent it refuses, or replaces by
U+FFFD without a word. A carriage return is allowed, and becomes a line feed on its way through XML to clients of the
older protocol.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

__all__ = [
    "MAX_BODY",
    "MESSAGE_LIMIT",
    "Attributes",
    "carried",
    "number",
    "read_body",
    "read_number",
    "read_text",
    "size",
    "text",
]

Attributes: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Message attributes, as SQS has them: a name, and a dict with `DataType` and the value."""

MESSAGE_LIMIT: Final = 1024 * 1024
"""Bytes of a message, its attributes' names, types and values included (SQS since August 2025)."""

OWN_ROOM: Final = 16 * 1024
"""Bytes that are kept for attributes: of a dead letter, its reason."""

MAX_BODY: Final = (MESSAGE_LIMIT - OWN_ROOM) // 4 * 3
"""The largest body, in bytes: 756 KiB, which are 1,008 KiB in base64."""

ENCODING: Final = "brrr.encoding"
BASE64: Final = "base64"

FOREIGN: Final = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What is not in a text that survives."""


def carried(body: bytes) -> tuple[str, dict[str, dict[str, Any]]]:
    """A body as a message's text, and the attributes that say how to read it."""
    try:
        as_text = body.decode()
    except UnicodeDecodeError:
        as_text = ""
    if as_text and not FOREIGN.search(as_text):
        return as_text, {}
    # An empty text is refused, and the base64 of nothing is empty: that is written as padding alone.
    return b64encode(body).decode() or "=", {ENCODING: {"DataType": "String", "StringValue": BASE64}}


def read_body(as_text: str, attributes: Attributes) -> bytes:
    """The body of a message. One that others put, and that says wrongly that it is base64, is its text."""
    plain = as_text.encode(errors="surrogatepass")
    if read_text(attributes, ENCODING) != BASE64:
        return plain
    if as_text == "=":
        return b""
    try:
        return b64decode(plain, validate=True)
    except Error:
        return plain


def number(value: float) -> dict[str, Any]:
    """An attribute that is a number."""
    return {"DataType": "Number", "StringValue": f"{value:.6f}".rstrip("0").rstrip(".")}


def text(value: str) -> dict[str, Any] | None:
    """An attribute that is any text but the empty one, which SQS has no attribute for."""
    if not value:
        return None
    if FOREIGN.search(value):
        return {"DataType": "Binary", "BinaryValue": value.encode(errors="backslashreplace")}
    return {"DataType": "String", "StringValue": value}


def read_text(attributes: Attributes, name: str) -> str:
    """The text of an attribute, empty where there is none."""
    found = attributes.get(name)
    if found is None:
        return ""
    binary = found.get("BinaryValue")
    return str(found.get("StringValue", "")) if binary is None else bytes(binary).decode(errors="replace")


def read_number(attributes: Attributes, name: str) -> float:
    """The number of an attribute, 0 where there is none, or something else."""
    try:
        return float(read_text(attributes, name) or 0)
    except ValueError:
        return 0.0


def size(as_text: str, attributes: Attributes) -> int:
    """The bytes that SQS counts of a message."""
    total = len(as_text.encode(errors="surrogatepass"))
    for name, value in attributes.items():
        total += len(name) + len(value["DataType"])
        total += len(value.get("BinaryValue") or value["StringValue"].encode())
    return total
