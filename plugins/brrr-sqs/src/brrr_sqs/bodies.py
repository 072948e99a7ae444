"""Encoding of message bodies: as text if SQS transmits it unchanged, otherwise as base64 with an attribute.

An SQS message is a non-empty text of XML 1.0 characters. SQS refuses other characters, or silently replaces them by
U+FFFD. It allows a carriage return, but turns it into a line feed for clients of its older XML protocol.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

__all__ = [
    "MAX_BODY",
    "MAX_MESSAGE_BYTES",
    "Attributes",
    "decode_body",
    "encode_body",
    "message_size",
    "number_attribute",
    "number_of",
    "text_attribute",
    "text_of",
]

Attributes: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Message attributes of SQS: for each name, a dict with `DataType` and the value."""

MAX_MESSAGE_BYTES: Final = 1024 * 1024
"""Largest message, with the names, types and values of its attributes (SQS since August 2025)."""

ATTRIBUTES_BYTES: Final = 16 * 1024
"""Bytes reserved for attributes, such as the reason of a dead letter."""

MAX_BODY: Final = (MAX_MESSAGE_BYTES - ATTRIBUTES_BYTES) // 4 * 3
"""Largest body, in bytes: 756 KiB, which take 1,008 KiB as base64."""

ENCODING: Final = "brrr.encoding"
BASE64: Final = "base64"

UNSAFE: Final = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that SQS does not transmit unchanged."""


def encode_body(body: bytes) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return the text of a message for a body, and the attributes that say how to decode it."""
    try:
        encoded = body.decode()
    except UnicodeDecodeError:
        encoded = ""
    if encoded and not UNSAFE.search(encoded):
        return encoded, {}
    # SQS refuses an empty text, and the base64 of an empty body is empty. It is written as a single `=`.
    return b64encode(body).decode() or "=", {ENCODING: {"DataType": "String", "StringValue": BASE64}}


def decode_body(encoded: str, attributes: Attributes) -> bytes:
    """Return the body of a message, or its text if it claims to be base64 but is not."""
    plain = encoded.encode(errors="surrogatepass")
    if text_of(attributes, ENCODING) != BASE64:
        return plain
    if encoded == "=":
        return b""
    try:
        return b64decode(plain, validate=True)
    except Error:
        return plain


def number_attribute(value: float) -> dict[str, Any]:
    """Return an attribute with a number."""
    return {"DataType": "Number", "StringValue": f"{value:.6f}".rstrip("0").rstrip(".")}


def text_attribute(value: str) -> dict[str, Any] | None:
    """Return an attribute with a text, or None for an empty text, which SQS does not allow."""
    if not value:
        return None
    if UNSAFE.search(value):
        return {"DataType": "Binary", "BinaryValue": value.encode(errors="backslashreplace")}
    return {"DataType": "String", "StringValue": value}


def text_of(attributes: Attributes, name: str) -> str:
    """Return the text of an attribute, or an empty text if it is missing."""
    found = attributes.get(name)
    if found is None:
        return ""
    binary = found.get("BinaryValue")
    return str(found.get("StringValue", "")) if binary is None else bytes(binary).decode(errors="replace")


def number_of(attributes: Attributes, name: str) -> float:
    """Return the number of an attribute, or 0 if it is missing or not a number."""
    try:
        return float(text_of(attributes, name) or 0)
    except ValueError:
        return 0.0


def message_size(encoded: str, attributes: Attributes) -> int:
    """Return the bytes that SQS counts for a message."""
    total = len(encoded.encode(errors="surrogatepass"))
    for name, value in attributes.items():
        total += len(name) + len(value["DataType"])
        total += len(value.get("BinaryValue") or value["StringValue"].encode())
    return total
