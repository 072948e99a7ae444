"""Fields that are `Added` are left out if they have their defaults, in every codec of the core."""

import dataclasses
import uuid
from typing import Any, NamedTuple, TypedDict

import msgspec
import pytest

from brrr_core.codec import Codec
from brrr_core.codec.added import Added
from brrr_core.errors import EncodeError, HandlerError
from tests.unit.codec.conftest import Through


@dataclasses.dataclass
class Old:
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class New:
    name: str
    size: Added[int] = 0
    tags: "Added[list[str]]" = dataclasses.field(default_factory=list)


class OldStruct(msgspec.Struct, tag="item", rename="upper"):
    name: str


class NewStruct(msgspec.Struct, tag="item", rename="upper", frozen=True):
    name: str
    size: Added[int | None] = None
    tags: Added[list[str]] = []


class Inherited(NewStruct, tag="item", frozen=True):
    colour: Added[str] = "red"


@dataclasses.dataclass
class Outer:
    inner: Any
    more: Added[New | None] = None


def payload(codec: Codec, value: object) -> bytes:
    return codec.encode_call("task", (), {"value": value}).payload


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (New("a"), Old("a")),
        (New("a", 0, []), Old("a")),
        (NewStruct("a"), OldStruct("a")),
        (Inherited("a"), OldStruct("a")),
        ([New("a"), New("b")], [Old("a"), Old("b")]),
        ({"k": (New("a"),)}, {"k": (Old("a"),)}),
        (Outer(New("a")), {"inner": Old("a")}),
        (Outer(NewStruct("a")), {"inner": OldStruct("a")}),
    ],
)
def test_value_with_defaults_has_the_bytes_of_the_class_without_the_fields(
    any_codec: Codec, new: object, old: object
) -> None:
    assert payload(any_codec, new) == payload(any_codec, old)


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (New("a", 1), {"name": "a", "size": 1}),
        (New("a", False), {"name": "a", "size": False}),
        (New("a", tags=["x"]), {"name": "a", "tags": ["x"]}),
        (NewStruct("a", 0), {"type": "item", "NAME": "a", "SIZE": 0}),
        (Outer(1, New("a")), {"inner": 1, "more": {"name": "a"}}),
    ],
)
def test_field_with_another_value_is_written(any_codec: Codec, value: object, members: object) -> None:
    assert payload(any_codec, value) == payload(any_codec, members)


def test_encoding_leaves_the_object_alone(any_codec: Codec) -> None:
    value, frozen = New("a"), NewStruct("a")

    payload(any_codec, [value, frozen])

    assert (value, frozen) == (New("a"), NewStruct("a"))


@pytest.mark.parametrize("value", [New("a"), New("a", 2), NewStruct("a"), NewStruct("a", 1, ["x"])])
async def test_reader_gets_the_defaults_back(any_codec: Codec, through: Through, value: Any) -> None:
    assert await through(any_codec, value, type(value)) == (value, value)


class ByPosition(msgspec.Struct, array_like=True):
    size: Added[int] = 0


class Pair(NamedTuple):
    size: Added[int] = 0


@dataclasses.dataclass
class Inside:
    size: Added[int] | None = None


@dataclasses.dataclass
class Required:
    size: Added[int]


@dataclasses.dataclass
class Unresolved:
    size: "Added[Nothing]" = None  # type: ignore[name-defined] # noqa: F821


@dataclasses.dataclass
class NotEncodable:
    size: Added[object] = dataclasses.field(default_factory=object)


@dataclasses.dataclass
class Random:
    size: Added[uuid.UUID] = dataclasses.field(default_factory=uuid.uuid4)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (ByPosition(), "only dataclasses, pydantic models"),
        (Pair(), "only dataclasses, pydantic models"),
        (Inside(), "around the whole annotation of 'size'"),
        (Required(1), "'size' has no default"),
        (Unresolved(), "'Added.Nothing.', does not resolve"),
        (NotEncodable(1), "default .* cannot be encoded"),
        (Random(), "default .* changes"),
    ],
)
def test_codec_refuses_value_with_field_that_cannot_be_added(any_codec: Codec, value: object, reason: str) -> None:
    with pytest.raises(EncodeError, match=reason):
        payload(any_codec, value)


class Dict(TypedDict):
    size: Added[int]


@pytest.mark.parametrize("kind", [ByPosition, Pair, Dict, Inside, list[Required]])
def test_codec_refuses_task_with_field_that_cannot_be_added(any_codec: Codec, kind: Any) -> None:
    async def task(value: Any) -> None: ...

    task.__annotations__["value"] = kind

    with pytest.raises(HandlerError, match="cannot be `Added`"):
        any_codec.check_task(task)
