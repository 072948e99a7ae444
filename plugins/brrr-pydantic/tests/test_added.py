"""Fields of models that are `Added` are left out if they have their defaults."""

import dataclasses
from typing import Any

import pydantic.dataclasses
import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel

import brrr_core as brrr
from brrr_core.errors import EncodeError, HandlerError
from brrr_pydantic.codec import PydanticCodec

CODEC = PydanticCodec()


class Old(BaseModel):
    name: str


class New(BaseModel):
    model_config = ConfigDict(alias_generator=str.upper, validate_by_name=True, frozen=True)

    name: str = Field(alias="name")
    size: brrr.Added[int] = Field(default=0, ge=0)
    tags: "brrr.Added[list[str]]" = []


class Names(RootModel[list[New]]): ...


@pydantic.dataclasses.dataclass
class Checked:
    name: str
    size: brrr.Added[int] = Field(default=0)


@dataclasses.dataclass
class Plain:
    name: str
    size: brrr.Added[int | None] = None


class Outer(BaseModel):
    model: New | None = None
    models: list[New] = []
    by_name: dict[str, New] = {}
    plain: Plain | None = None


def payload(value: object) -> bytes:
    return CODEC.encode_call("task", (value,), {}).payload


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (New(name="a"), Old(name="a")),
        ([New(name="a", tags=[])], [Old(name="a")]),
        (Names([New(name="a")]), [Old(name="a")]),
        (Checked("a"), Old(name="a")),
        (Plain("a"), Old(name="a")),
        (
            Outer(model=New(name="a"), models=[New(name="b")], by_name={"c": New(name="c")}, plain=Plain("d")),
            {
                "model": {"name": "a"}, "models": [{"name": "b"}], "by_name": {"c": {"name": "c"}},
                "plain": {"name": "d"},
            },
        ),
    ],
)  # fmt: skip
def test_value_with_defaults_has_the_bytes_of_the_class_without_the_fields(new: object, old: object) -> None:
    assert payload(new) == payload(old)


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (New(name="a", size=1), {"name": "a", "SIZE": 1}),
        (New(name="a", tags=["x"]), {"name": "a", "TAGS": ["x"]}),
        (Checked("a", 1), {"name": "a", "size": 1}),
        (Names([New(name="a"), New(name="b", size=2)]), [{"name": "a"}, {"name": "b", "SIZE": 2}]),
    ],
)
def test_field_with_another_value_is_written(value: object, members: object) -> None:
    assert payload(value) == payload(members)


@pytest.mark.parametrize("value", [New(name="a"), New(name="a", size=3), Checked("a"), Outer(models=[New(name="a")])])
async def test_handler_gets_the_defaults_back(value: Any) -> None:
    async def echo(value: Any) -> Any:
        return value

    echo.__annotations__["value"] = type(value)
    result = await CODEC.invoke_task(CODEC.encode_call("echo", (value,), {}), echo)

    assert CODEC.decode_return("echo", result, returns=type(value)) == value


def test_models_are_dumped_in_full_elsewhere() -> None:
    assert New(name="a").model_dump() == {"name": "a", "size": 0, "tags": []}


class Required(BaseModel):
    size: brrr.Added[int]


async def task(value: list[Required]) -> None: ...


def test_field_without_default_is_refused() -> None:
    with pytest.raises(EncodeError, match="'size' has no default"):
        payload(Required(size=1))
    with pytest.raises(HandlerError, match="'size' has no default"):
        CODEC.check_task(task)
