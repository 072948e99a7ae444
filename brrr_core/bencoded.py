"""Values in bencode, and the checks that the records of the wire share. All of them raise `MalformedRecordError`."""

from itertools import islice
from typing import Final, NoReturn, TypeAlias

from bencode2 import bdecode, bencode

from brrr_core.errors import MalformedRecordError

__all__ = [
    "Bencoded",
    "check_bytes",
    "check_token",
    "check_tokens",
    "decode",
    "encode",
    "read_text",
    "read_token",
    "read_tokens",
    "reject",
]

_REMEDY: Final = "Find the program that writes to this topic or store with another version of the protocol."

Bencoded: TypeAlias = "int | bytes | list[Bencoded] | dict[bytes, Bencoded]"
"""A decoded bencode value."""


def encode(record: str, value: object) -> bytes:
    """Return a value in bencode; `record` names it in errors."""
    try:
        return bencode(value)
    except (ValueError, TypeError) as error:
        raise MalformedRecordError(
            f"a {record} cannot be written: {error}",
            remedy="Use only text without lone surrogates, bytes and integers.",
        ) from error


def check_bytes(record: str, data: bytes) -> bytes:
    """Refuse an object that is not bytes; `record` names it in errors."""
    if not isinstance(data, bytes):  # pyright: ignore[reportUnnecessaryIsInstance] - clients may return any type
        raise MalformedRecordError(f"a {record} is a {type(data).__name__}, not bytes", remedy="Pass bytes.")
    return data


def decode(record: str, data: bytes) -> Bencoded:
    """Return the value that bencoded bytes hold; `record` names it in errors."""
    try:
        decoded: Bencoded = bdecode(data if type(data) is bytes else check_bytes(record, data))
    except (ValueError, RecursionError) as error:
        raise MalformedRecordError(
            f"a {record} of {len(data)} bytes is not bencode: {error}", remedy=_REMEDY
        ) from error
    return decoded


def check_tokens(root_id: str, call_hash: str) -> None:
    """Refuse a root id or a call hash that is not printable US-ASCII."""
    # One check of both, because every message has them.
    both = root_id + call_hash
    if not (root_id and call_hash and both.isascii() and both.isprintable()):
        check_token("root id", root_id)
        check_token("call hash", call_hash)


def check_token(field: str, token: str) -> None:
    """Refuse a token that is not printable US-ASCII."""
    if not (token and token.isascii() and token.isprintable()):
        raise MalformedRecordError(
            f"the {field} {_short(token)} is not printable US-ASCII",
            remedy="Use a token of printable US-ASCII, at least one character long.",
        )


def read_tokens(root_id: bytes, call_hash: bytes) -> tuple[str, str]:
    """Return a root id and a call hash as text."""
    both = root_id + call_hash
    if root_id and call_hash and both.isascii():
        text = both.decode()
        if text.isprintable():
            end = len(root_id)
            return text[:end], text[end:]
    return read_token("root id", root_id), read_token("call hash", call_hash)


def read_token(field: str, raw: bytes) -> str:
    """Return a token as text."""
    token = raw.decode() if raw.isascii() else ""
    if not (token and token.isprintable()):
        raise MalformedRecordError(f"the {field} {_short(raw)} is not printable US-ASCII", remedy=_REMEDY)
    return token


def read_text(field: str, raw: bytes) -> str:
    """Return UTF-8 as text."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise MalformedRecordError(f"the {field} {_short(raw)} is not UTF-8", remedy=_REMEDY) from error


def reject(record: str, expected: str, found: Bencoded) -> NoReturn:
    """Raise the error of a record with another shape."""
    match found:
        case []:
            shape = "an empty list"
        case [tag, *_]:
            shape = f"a list of {len(found)} fields with the tag {_short(tag)}"
        case dict():
            shape = f"a dict of {len(found)} fields: {', '.join(map(_short, islice(found, 4)))}"
        case _:
            shape = f"a single {type(found).__name__}"
    raise MalformedRecordError(f"a {record} should be {expected}, but is {shape}", remedy=_REMEDY)


def _short(value: "Bencoded | str") -> str:
    # Never show the repr of a nested value: it may be thousands of levels deep and megabytes long.
    if isinstance(value, list | dict):
        return f"a {type(value).__name__}"
    if isinstance(value, int):
        return str(value) if value.bit_length() < 64 else "a huge integer"
    return repr(value) if len(value) <= 64 else f"{value[:64]!r}…"
