"""The codecs `json` and `json-object`: JSON as the TypeScript SDK writes it, and the same call hashes."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, cast

import msgspec
from msgspec import Raw, Struct

from brrr_core.codec.base import MsgspecCodec
from brrr_core.codec.canonical import TEXT, CanonicalForm, NotCanonicalError
from brrr_core.codec.decoders import Decoders
from brrr_core.codec.javascript import is_plain_order, number_text, sort_key
from brrr_core.codec.signatures import TaskSignature
from brrr_core.codec.unencodable import type_name
from brrr_core.errors import EncodeError
from brrr_core.wire import Call

__all__ = ["CallForm", "JsonCodec", "JsonObjectCodec", "ResultForm"]

MAX_SAFE_INTEGER: Final = 2**53
"""Up to here every whole float is an integer that JavaScript writes with the same digits as Python."""

MIN_PLAIN: Final = 1e-5
"""From here on msgspec writes fractions as JavaScript does, without an exponent."""


class ResultForm(CanonicalForm):
    """JSON with sorted keys, no spaces, and numbers that say the same in every language."""

    def number(self, value: float) -> object:
        """Refuses what JSON has no number for."""
        if not math.isfinite(value):
            raise NotCanonicalError(f"JSON has no number for {value}")
        return value

    def mapping(self, value: Mapping[object, object]) -> object:
        """Keys become text, in JavaScript's order."""
        if TEXT.issuperset(map(type, value)):
            members = self.values(cast("Mapping[str, object]", value))
        else:
            members = self._named(value)
        if is_plain_order(members):
            return members
        order = sorted(members, key=sort_key)
        if order == sorted(members):
            return members
        return Raw(b"{" + b",".join(self._encode(key) + b":" + self._encode(members[key]) for key in order) + b"}")

    def struct(self, value: Struct) -> object:
        """A struct's fields can be renamed to anything, array indices included."""
        twin = super().struct(value)
        if is_plain_order(type(value).__struct_encode_fields__):
            return twin
        written: object = msgspec.json.decode(self._encode(twin))
        return self(written)

    def _named(self, value: Mapping[object, object]) -> dict[str, object]:
        members: dict[str, object] = {}
        for key, member in value.items():
            name = self._name(key)
            if name in members:
                raise NotCanonicalError(f"two of its keys would both be written as {name!r}")
            members[name] = self(member)
        return members

    def _name(self, key: object) -> str:
        if isinstance(key, str):
            return str.__str__(key)
        written = self.encoded(key)
        name: object = msgspec.json.decode(written)
        if type(name) is int:
            return written.decode()
        if type(name) is str:
            return name
        raise NotCanonicalError(f"JSON has no way to write its key of type {type_name(type(key))}")


class CallForm(ResultForm):
    """As JavaScript writes arguments: it has one kind of number, so `1.0` is `1`."""

    def number(self, value: float) -> object:
        """The number as `JSON.stringify` writes it."""
        if value.is_integer():
            if -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
                return int(value)
        elif not math.isfinite(value):
            raise NotCanonicalError(f"JSON has no number for {value}")
        elif value >= MIN_PLAIN or value <= -MIN_PLAIN:
            return value
        return Raw(number_text(value).encode())


class JsonCodec(MsgspecCodec):
    """JSON: positional arguments as the TypeScript SDK writes them, so that both share calls and results.

    Bytes travel as base64, sets as arrays, datetimes, UUIDs, Decimals and enums as msgspec writes them; a handler's
    annotations bring them back. docs/decisions/0002-codecs.md has the canonical form. Codecs of other libraries' types
    derive from this class, with canonical forms and decoders of their own.
    """

    name: ClassVar[str] = "json"

    def __init__(
        self,
        *,
        calls: type[CanonicalForm] = CallForm,
        results: type[CanonicalForm] = ResultForm,
        decoders: type[Decoders] = Decoders,
    ) -> None:
        encode = msgspec.json.Encoder(order="sorted").encode
        super().__init__(
            encode=encode,
            make_decoder=_make_decoder,
            decoders=decoders(_make_decoder, (dict, list, str, int, float, bool, type(None))),
            calls=calls(encode),
            results=results(encode),
        )

    def decode_return(self, task_name: str, payload: bytes, *, returns: Any = Any) -> Any:
        """See `Codec.decode_return`. The empty value, a TypeScript function's `undefined`, is read as `null`."""
        return super().decode_return(task_name, payload or b"null", returns=returns)

    def _identity(self, task_name: bytes, payload: bytes) -> bytes:
        return b"[" + task_name + b"," + payload + b"]"


class JsonObjectCodec(JsonCodec):
    """JSON: keyword arguments as one object, `[{…}]`.

    Python handlers with keyword arguments and TypeScript functions of one object argument call each other.
    """

    name: ClassVar[str] = "json-object"
    keyword_only: ClassVar[bool] = True
    _payload_type: ClassVar[Any] = list[dict[str, Raw]]

    def _arguments(self, task_name: str, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
        if args:
            raise EncodeError(
                f"the json-object codec cannot encode a call of task {task_name!r} "
                f"with {len(args)} positional arguments, the first of type {type_name(type(args[0]))}",
                remedy="Give every argument by its name, or use the json codec.",
            )
        return (dict(kwargs),)

    def _bind(self, signature: TaskSignature, call: Call, payload: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
        if len(payload) > 1:
            raise self._unreadable_payload(call, f"one object is expected, and there are {len(payload)}")
        return signature.bind(call.task_name, (), payload[0] if payload else {})


def _make_decoder(kind: Any) -> Callable[[bytes | Raw], Any]:
    return msgspec.json.Decoder(kind).decode
