"""A value survives the round trip through a codec: any builtin value, and any type that a handler can annotate."""

import dataclasses
import datetime as dt
import math
import uuid
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brrr_core.codec import Codec
from brrr_core.codec.json import JsonCodec, JsonObjectCodec
from brrr_core.codec.msgpack import MsgpackCodec
from brrr_core.errors import EncodeError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=25,
)
KEYS = st.none() | st.integers(-(2**63), 2**64 - 1) | TEXTS | st.binary() | st.tuples(TEXTS, st.integers(0, 9))
MSGPACK_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXTS | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=25,
)


def as_javascript(value: Any) -> Any:
    """Return arguments as JSON preserves them: whole floats from 2**53 on have the digits that JavaScript writes."""
    match value:
        case float() if value.is_integer() and 2**53 < abs(value) < 1e21:
            return int(Decimal(repr(value)))
        case list():
            return [as_javascript(element) for element in value]
        case dict():
            return {key: as_javascript(member) for key, member in value.items()}
        case _:
            return value


@settings(deadline=None)
@given(JSON_VALUES)
async def test_any_json_value_survives_round_trip(through: Any, value: Any) -> None:
    for codec in (JsonCodec(), JsonObjectCodec()):
        received, result = await through(codec, value)
        assert received == as_javascript(value)
        assert result == received


@settings(deadline=None)
@given(MSGPACK_VALUES)
async def test_any_msgpack_value_survives_round_trip(through: Any, value: Any) -> None:
    assert await through(MsgpackCodec(), value) == (value, value)


@dataclasses.dataclass
class Address:
    street: str
    number: int | None = None


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Person(msgspec.Struct, tag=True, rename="camel"):
    full_name: str
    homes: list[Address]
    born: dt.date
    colours: set[Colour] = set()
    score: float = 0.0


class Company(msgspec.Struct, tag=True):
    name: str


@dataclasses.dataclass
class Tree:
    """A type that contains itself."""

    name: str
    inside: list["Tree"] = dataclasses.field(default_factory=list)


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Movie(TypedDict):
    title: str
    year: int


NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 123456)  # noqa: DTZ001 - naive datetimes are values too
PERSON = Person("Ada", [Address("Elm", 7), Address("Oak")], dt.date(1815, 12, 10), {Colour.RED, Colour.BLUE}, 2.0)
TYPED: list[tuple[Any, Any]] = [
    (Address, Address("Elm", 7)),
    (Person, PERSON),
    (Tree, Tree("root", [Tree("a"), Tree("b", [Tree("c")])])),
    (Annotated[int, ["metadata that cannot be a key"]], 5),
    (Person | Company, Company("x")),
    (dt.datetime, NOON),
    (dt.datetime, NOON.replace(tzinfo=dt.UTC)),
    (dt.datetime, NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=-9)))),
    (dt.date, NOON.date()),
    (dt.time, NOON.time()),
    (dt.timedelta, dt.timedelta(days=-3, microseconds=1)),
    (uuid.UUID, uuid.UUID(int=2**127 + 1)),
    (Decimal, Decimal("-1.500")),
    (Decimal, Decimal("1E+400")),
    (Colour, Colour.BLUE),
    (Level, Level.HIGH),
    (bytes, bytes(range(256))),
    (bytearray, bytearray(b"ab")),
    (float, 2.0),
    (float, 2.0**69),
    (float, -1e300),
    (int, 2**63),
    (set[str], {"b", "a"}),
    (frozenset[frozenset[int]], frozenset({frozenset({1}), frozenset({2, 3})})),
    (tuple[int, ...], (1, 2)),
    (tuple[int, str], (1, "x")),
    (Pair, Pair(1)),
    (Movie, {"title": "M", "year": 1931}),
    (dict[int, str], {1: "a", 10: "b", 9: "c"}),
    (dict[uuid.UUID, int], {uuid.UUID(int=1): 1}),
    (dict[Colour, list[Decimal]], {Colour.RED: [Decimal(1)], Colour.BLUE: []}),
    (Literal["a", "b"] | None, "a"),
    (Annotated[int, msgspec.Meta(ge=0)], 5),
    (object, [1, {"a": None}]),
    (Any, [1, {"a": None}]),
]


@pytest.mark.parametrize(("kind", "value"), TYPED)
async def test_typed_value_survives_round_trip(any_codec: Codec, through: Any, kind: Any, value: Any) -> None:
    received, result = await through(any_codec, value, kind)

    assert received == result == value
    assert type(received) is type(result) is type(value)


MONROVIA = dt.datetime(1970, 1, 1, tzinfo=ZoneInfo("Africa/Monrovia"))


@pytest.mark.parametrize("shape", [lambda when: when, lambda when: [when], lambda when: {"k": when}])
async def test_datetime_with_odd_offset_keeps_its_instant(any_codec: Codec, through: Any, shape: Any) -> None:
    near = MONROVIA.replace(tzinfo=dt.timezone(dt.timedelta(minutes=-44)))
    kind = {dt.datetime: dt.datetime, list: list[dt.datetime], dict: dict[str, dt.datetime]}[type(shape(MONROVIA))]

    assert await through(any_codec, shape(MONROVIA), kind) == (shape(MONROVIA), shape(MONROVIA))
    calls = {any_codec.encode_call("task", (), {"at": shape(when)}).call_hash for when in (MONROVIA, near)}
    assert len(calls) == 2


def test_datetime_key_with_odd_offset_keeps_its_instant() -> None:
    payload = JsonCodec().encode_call("task", ({MONROVIA: 1},), {}).payload

    assert payload == b'[{"1970-01-01T00:44:30Z":1}]'


def test_time_with_odd_offset_is_refused(codec: Codec) -> None:
    odd = dt.time(12, tzinfo=dt.timezone(dt.timedelta(seconds=30)))

    with pytest.raises(EncodeError, match=r"args\[0\]\[0\].*its UTC offset, 0:00:30, has seconds.*whole minutes"):
        codec.encode_call("task", ([odd],), {})


@pytest.mark.parametrize("number", [2**53 + 1, -(2**63) - 1, 2**64, 10**4000])
async def test_big_integer_keeps_its_digits_in_json(through: Any, number: int) -> None:
    assert await through(JsonCodec(), number) == (number, number)


async def test_whole_float_stays_float_in_json_result_but_not_in_argument(through: Any) -> None:
    received, result = await through(JsonCodec(), 2.0)
    assert type(received) is int

    async def half() -> float:
        return 2.0

    payload = await JsonCodec().invoke_task(JsonCodec().encode_call("half", (), {}), half)
    assert type(JsonCodec().decode_return("half", payload)) is float
    assert result == 2


async def test_msgpack_keeps_bytes_datetimes_infinities_and_nan(through: Any) -> None:
    value = [b"\x00\xff", NOON.replace(tzinfo=dt.UTC), math.inf, -math.inf, {b"k": 1}]
    assert await through(MsgpackCodec(), value) == (value, value)

    received, result = await through(MsgpackCodec(), math.nan)
    assert math.isnan(received)
    assert math.isnan(result)


def test_decoder_is_made_once_per_type() -> None:
    made: list[Any] = []
    codec = JsonCodec()
    make = codec._decoders._make
    codec._decoders._make = lambda kind: made.append(kind) or make(kind)

    for _ in range(3):
        assert codec.decode_return("task", b"[1]", returns=list[int]) == [1]

    assert made == [list[int]]
