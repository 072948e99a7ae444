"""The codec `msgpack`: compact MessagePack. Bytes stay bytes, and floats stay floats."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Final, cast

import msgspec
from msgspec import Raw

from brrr_core.codec.base import MsgspecCodec
from brrr_core.codec.canonical import TEXT, CanonicalForm, NotCanonicalError
from brrr_core.codec.decoders import Decoders

__all__ = ["MsgpackCodec"]

PAIR: Final = b"\x92"
"""The head of an array of two elements."""


class _MsgpackForm(CanonicalForm):
    """MessagePack with maps sorted by their encoded keys, and one form of NaN."""

    def number(self, value: float) -> object:
        """Keep every float. NaN loses its sign and payload."""
        return math.nan if value != value else value  # noqa: PLR0124 - only NaN differs from itself

    def mapping(self, value: Mapping[object, object]) -> object:
        """Sort by encoded key. A key can have any type that can be encoded."""
        if TEXT.issuperset(map(type, value)):
            return self.values(cast("Mapping[str, object]", value))
        members: dict[bytes, bytes] = {}
        for key, member in value.items():
            name = self.encoded(str.__str__(key) if isinstance(key, str) else key)
            if name in members:
                raise NotCanonicalError(f"two of its keys are both written as {name!r}")
            members[name] = self.encoded(member)
        return Raw(_map_head(len(members)) + b"".join(name + members[name] for name in sorted(members)))


class MsgpackCodec(MsgspecCodec):
    """Compact MessagePack. It has bytes, datetimes, NaN and dict keys of any type, without a detour through text.

    Integers have at most 64 bits. `docs/decisions/0002-codecs.md` defines the canonical form.
    """

    name: ClassVar[str] = "msgpack"

    def __init__(self) -> None:
        encode = msgspec.msgpack.Encoder(order="sorted").encode
        form = _MsgpackForm(encode)
        super().__init__(
            encode=encode,
            make_decoder=_make_decoder,
            decoders=Decoders(
                _make_decoder, (dict, list, str, int, float, bool, type(None), bytes, datetime, msgspec.msgpack.Ext)
            ),
            calls=form,
            results=form,
        )

    def _identity(self, task_name: bytes, payload: bytes) -> bytes:
        return PAIR + task_name + payload


def _map_head(length: int) -> bytes:
    """Return the shortest head for a map of this length (MessagePack specification, map format family)."""
    if length < 1 << 4:
        return bytes((0x80 | length,))
    if length < 1 << 16:
        return b"\xde" + length.to_bytes(2, "big")
    return b"\xdf" + length.to_bytes(4, "big")


def _make_decoder(kind: Any) -> Callable[[bytes | Raw], Any]:
    return msgspec.msgpack.Decoder(kind).decode
