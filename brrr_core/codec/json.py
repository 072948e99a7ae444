"""The codecs `json` and `json-object`: the JSON and the call hashes of the TypeScript SDK.

JavaScript orders keys and writes some numbers differently from Python. The last functions follow its rules.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Final, cast

import msgspec
from msgspec import Raw, Struct

from brrr_core.codec.base import MsgspecCodec
from brrr_core.codec.canonical import TEXT, CanonicalForm, NotCanonicalError
from brrr_core.codec.decoders import Decoders
from brrr_core.codec.signatures import TaskSignature
from brrr_core.codec.unencodable import type_name
from brrr_core.errors import EncodeError
from brrr_core.wire import Call

__all__ = ["CallForm", "JsonCodec", "JsonObjectCodec", "ResultForm"]

MAX_SAFE_INTEGER: Final = 2**53
"""Up to this number, Python and JavaScript write every whole float with the same digits."""

MIN_PLAIN: Final = 1e-5
"""From this number on, msgspec writes fractions without an exponent, as JavaScript does."""

# ECMAScript, Number::toString: beyond 21 digits before the point, or 6 zeros after it, it writes an exponent.
MAX_WHOLE_DIGITS = 21
MAX_LEADING_ZEROS = 6

LAST_INDEX: Final = 2**32 - 2
"""The last "array index" of ECMAScript."""
MAX_INDEX_DIGITS: Final = 10


class ResultForm(CanonicalForm):
    """Results: JSON with sorted keys, without spaces. Floats stay floats."""

    def number(self, value: float) -> object:
        """Refuse NaN and the infinities, which JSON cannot write."""
        if not math.isfinite(value):
            raise NotCanonicalError(f"JSON has no number for {value}")
        return value

    def mapping(self, value: Mapping[object, object]) -> object:
        """Turn keys into text, in JavaScript's order."""
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
        """Order the fields by their encoded names, which can be array indices."""
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
                raise NotCanonicalError(f"two of its keys are both written as {name!r}")
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
        raise NotCanonicalError(f"JSON cannot write its key of type {type_name(type(key))}")


class CallForm(ResultForm):
    """Arguments: as JavaScript writes them. It has one kind of number, so `1.0` is `1`."""

    def number(self, value: float) -> object:
        """Write the number as `JSON.stringify` does."""
        if value.is_integer():
            if -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
                return int(value)
        elif not math.isfinite(value):
            raise NotCanonicalError(f"JSON has no number for {value}")
        elif value >= MIN_PLAIN or value <= -MIN_PLAIN:
            return value
        return Raw(number_text(value).encode())


class JsonCodec(MsgspecCodec):
    """JSON with positional arguments, as the TypeScript SDK writes them: both SDKs share calls and results.

    Bytes are written as base64, sets as arrays, and datetimes, UUIDs, Decimals and enums as msgspec writes them. A
    handler's annotations turn them back into their types. `docs/decisions/0002-codecs.md` defines the canonical form.
    A codec for the types of another library derives from this class, and brings its own canonical forms and decoders.
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
        """See `Codec.decode_return`. An empty value, the `undefined` of a TypeScript function, is read as `null`."""
        return super().decode_return(task_name, payload or b"null", returns=returns)

    def _identity(self, task_name: bytes, payload: bytes) -> bytes:
        return b"[" + task_name + b"," + payload + b"]"


class JsonObjectCodec(JsonCodec):
    """JSON with keyword arguments as one object, `[{…}]`.

    Python handlers with keyword arguments and TypeScript functions with one object argument can call each other.
    """

    name: ClassVar[str] = "json-object"
    keyword_only: ClassVar[bool] = True
    _payload_type: ClassVar[Any] = list[dict[str, Raw]]

    def _arguments(self, task_name: str, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
        if args:
            raise EncodeError(
                f"the json-object codec cannot encode a call of task {task_name!r} "
                f"with {len(args)} positional arguments, the first of type {type_name(type(args[0]))}",
                remedy="Pass every argument by name, or use the json codec.",
            )
        return (dict(kwargs),)

    def _bind(self, signature: TaskSignature, call: Call, payload: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
        if len(payload) > 1:
            raise self._unreadable_payload(call, f"expected one object, got {len(payload)}")
        return signature.bind(call.task_name, (), payload[0] if payload else {})


def _make_decoder(kind: Any) -> Callable[[bytes | Raw], Any]:
    return msgspec.json.Decoder(kind).decode


def number_text(value: float) -> str:
    """Write a finite float as `JSON.stringify` does: `1`, `0.000001`, `1e-7`, `1e+21`; both zeros are `0`."""
    if value == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    return ("-" if sign else "") + _positive("".join(map(str, digits)), len(digits) + int(exponent))


def _positive(digits: str, point: int) -> str:
    """Write `digits` with the decimal point after the first `point` of them. ECMAScript calls `point` n."""
    if 0 < point <= MAX_WHOLE_DIGITS:
        whole, rest = digits[:point].ljust(point, "0"), digits[point:]
        return f"{whole}.{rest}" if rest else whole
    if -MAX_LEADING_ZEROS < point <= 0:
        return "0." + "0" * -point + digits
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{mantissa}e{point - 1:+d}"


def sort_key(text: str) -> bytes:
    """Return a sort key that orders keys like a JavaScript object to which they were added in the order of `sort()`.

    Such an object lists array indices first, by value: `0` to `4294967294`, without leading zeros. The other keys
    follow by UTF-16 code units. Python sorts by code points. The two orders differ only if a character beyond U+FFFF is
    compared with one from U+E000 to U+FFFF.

    Raises:
        UnicodeEncodeError: The text holds half of a surrogate pair.
    """
    if len(text) <= MAX_INDEX_DIGITS and text.isdecimal() and text.isascii():
        index = int(text)
        if index <= LAST_INDEX and str(index) == text:
            return b"\0" + index.to_bytes(4, "big")
    return b"\1" + text.encode("utf-16-be")


def is_plain_order(keys: Collection[str]) -> bool:
    """Whether Python certainly orders the keys like JavaScript: all are ASCII, and none is an array index."""
    return "".join(keys).isascii() and not any(map(str.isdecimal, keys))
