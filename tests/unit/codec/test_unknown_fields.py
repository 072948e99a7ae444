"""A field that the handler's type does not have is an error: the handler must not run without that field."""

import dataclasses
from typing import Annotated, Any, NamedTuple, TypedDict

import attrs
import msgspec
import pytest

from brrr_core.codec import Codec
from brrr_core.codec.json import JsonCodec
from brrr_core.errors import DecodeError


@dataclasses.dataclass
class Plain:
    x: int = 0
    inner: "Plain | None" = None


@attrs.define
class Attrs:
    x: int


class Record(msgspec.Struct, rename={"x": "ex"}):
    x: int = 0
    inner: list[Plain] = []


class Array(msgspec.Struct, array_like=True):
    x: int
    inner: Plain | None = None


class Cat(msgspec.Struct, tag=True):
    x: int


class Dog(msgspec.Struct, tag="dog"):
    y: int


class Movie(TypedDict, total=False):
    x: int
    cast: dict[str, Plain]


class Pair(NamedTuple):
    left: int
    right: Plain


UNKNOWN: list[tuple[Any, Any, str]] = [
    (Plain, {"x": 1, "new": 2}, "['new']"),
    (Plain, {"inner": {"inner": {"new": 2}}}, ".inner.inner['new']"),
    (Attrs, {"x": 1, "new": 2}, "['new']"),
    (Record, {"x": 1}, "['x']"),
    (Record, {"ex": 1, "inner": [{}, {"new": 1}]}, ".inner[1]['new']"),
    (Array, [1, None, 3], "[2]"),
    (Array, [1, {"new": 1}], "[1]['new']"),
    (Movie, {"x": 1, "new": 2}, "['new']"),
    (Movie, {"cast": {"a": {"new": 2}}}, ".cast['a']['new']"),
    (Pair, [1, {"new": 2}], "[1]['new']"),
    (list[Plain], [{}, {"new": 1}], "[1]['new']"),
    (tuple[Plain, ...], [{}, {"new": 1}], "[1]['new']"),
    (tuple[int, Plain], [1, {"new": 1}], "[1]['new']"),
    (dict[str, list[Plain]], {"k": [{"new": 1}]}, "['k'][0]['new']"),
    (Plain | None, {"new": 1}, "['new']"),
    (list[Plain] | Plain | int, {"new": 1}, "['new']"),
    (list[Plain] | Plain | int, [{"new": 1}], "[0]['new']"),
    (Cat | Dog, {"type": "Cat", "x": 1, "y": 2}, "['y']"),
    (Cat | Dog | None, {"type": "dog", "y": 1, "x": 2}, "['x']"),
    (Annotated[Plain, msgspec.Meta(extra_json_schema={"title": "p"})], {"new": 1}, "['new']"),
    (Plain, {"n" * 100: 1}, "['" + "n" * 39 + "…]"),
]


@pytest.mark.parametrize(("kind", "value", "path"), UNKNOWN, ids=str)
async def test_unknown_field_is_decode_error_with_its_path(codec: Codec, kind: Any, value: Any, path: str) -> None:
    async def task(ok: int, image: Any) -> None:
        raise AssertionError("is not run")

    task.__annotations__["image"] = kind

    with pytest.raises(DecodeError, match=r"passes a value of type .* to parameter 'image'") as caught:
        await codec.invoke_task(codec.encode_call("task", (1, value), {}), task)

    assert caught.value.what.endswith(f": the type has no such field: {path}")
    assert caught.value.retry


KNOWN: list[tuple[Any, Any]] = [
    (Plain, Plain(1, Plain(2, Plain(3)))),
    (Attrs, Attrs(1)),
    (Record, Record(1, [Plain(1), Plain(2, Plain())])),
    (Array, Array(1, Plain())),
    (list[Cat | Dog], [Dog(1), Cat(2)]),
    (Movie, {"x": 1, "cast": {"a": Plain(1)}}),
    (Pair, Pair(1, Plain(1))),
    (list[Plain] | Plain | int, 5),
    (dict[str, Any], {"any": {"new": 1}}),
]


@pytest.mark.parametrize(("kind", "value"), KNOWN, ids=str)
async def test_value_with_known_fields_is_decoded(any_codec: Codec, through: Any, kind: Any, value: Any) -> None:
    received, _ = await through(any_codec, value, kind)

    assert received == value


async def test_unknown_field_of_result_is_dropped(codec: Codec) -> None:
    async def task() -> Any:
        return {"x": 1, "new": 2}

    payload = await codec.invoke_task(codec.encode_call("task", (), {}), task)

    assert codec.decode_return("task", payload, returns=Plain) == Plain(1)


async def test_private_field_of_attrs_class_survives_round_trip(any_codec: Codec, through: Any) -> None:
    @attrs.define
    class Secretive:
        x: int
        _hidden: int = 0

    assert await through(any_codec, Secretive(1, 2), Secretive) == (Secretive(1, 2), Secretive(1, 2))
    assert JsonCodec().encode_call("task", (Secretive(1, 2),), {}).payload == b'[{"_hidden":2,"x":1}]'


def test_attribute_of_attrs_class_that_is_not_a_field_is_omitted(codec: Codec) -> None:
    @attrs.define(slots=False)
    class Cached:
        x: int

    plain, cached = Cached(1), Cached(1)
    cached.twice = 2  # type: ignore[attr-defined] # as functools.cached_property does

    assert codec.encode_call("task", (cached,), {}) == codec.encode_call("task", (plain,), {})
