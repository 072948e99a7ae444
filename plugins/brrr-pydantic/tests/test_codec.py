"""Models as arguments and results. Plain data has the bytes of the codec `json`."""

import dataclasses
import datetime as dt
import inspect
from collections import Counter, deque
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import msgspec
import pydantic.dataclasses
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    Json,
    PlainSerializer,
    PositiveInt,
    RootModel,
    SecretStr,
    computed_field,
)

import brrr_core as brrr
from brrr_core.codec import JsonCodec
from brrr_core.errors import DecodeError, EncodeError, HandlerError
from brrr_pydantic.codec import PydanticCodec

CODEC = PydanticCodec()


class Colour(Enum):
    RED = "red"


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: PositiveInt


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str


class Order(BaseModel):
    model_config = ConfigDict(alias_generator=lambda name: name.replace("_", "-"))

    order_id: int
    when: dt.datetime | None = None
    tags: set[str] = set()
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = []
    price: Decimal = Decimal("1.50")
    where: PurePosixPath = PurePosixPath("/")
    data: Base64Bytes = b""
    text: bytes = b""
    parsed: Json[list[int]] = []
    colour: Colour = Colour.RED

    @computed_field  # type: ignore[prop-decorator]
    @property
    def doubled(self) -> int:
        return self.order_id * 2


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    x: int
    inner: "Open | None" = None


class Closed(BaseModel):
    x: int
    open: Open | None = None


class Numbers(RootModel[list[int]]):
    pass


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    when: dt.datetime
    tags: frozenset[str]
    pair: tuple[int, str]


class Hexed(BaseModel):
    number: Annotated[int, PlainSerializer(hex)]


@pydantic.dataclasses.dataclass
class Point:
    x: PositiveInt


@dataclasses.dataclass
class One:
    a: int


@dataclasses.dataclass
class Two:
    b: int
    point: Point | None = None


class Split(BaseModel):
    x: int = Field(0, validation_alias="read", serialization_alias="written")


class Configured(BaseModel):
    model_config = ConfigDict(val_json_bytes="base64")

    x: bytes


class Keeper(BaseModel):
    secret: SecretStr


def asking_for(kind: Any, seen: list[Any]) -> Any:
    async def task(value: Any) -> Any:
        seen.append(value)
        return value

    parameter = inspect.Parameter("value", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind)
    task.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
    return task


async def through(value: Any, kind: Any) -> tuple[Any, Any]:
    seen: list[Any] = []
    payload = await CODEC.invoke_task(CODEC.encode_call("task", (value,), {}), asking_for(kind, seen))
    return seen[0], CODEC.decode_return("task", payload, returns=kind)


NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 5, tzinfo=dt.UTC)
FULL = Order.model_validate(
    {
        "order-id": 5,
        "when": NOON,
        "tags": {"b", "a"},
        "pets": [Cat(lives=9), Dog(name="x")],
        "price": "2.50",
        "where": "/x",
        "data": b"/w==",
        "text": "é".encode(),
        "parsed": "[1,2]",
    }
)
TYPED: list[tuple[Any, Any]] = [
    (Order, FULL),
    (Order, Order.model_validate({"order-id": 1})),
    (list[Order], [FULL]),
    (Cat | Dog, Dog(name="x")),
    (One | Two, Two(1, Point(2))),
    (Point, Point(3)),
    (Numbers, Numbers([1, 2])),
    (Strict, Strict(when=NOON, tags=frozenset("ab"), pair=(1, "x"))),
    (Open, Open.model_validate({"x": 1, "more": [2], "inner": {"x": 2, "other": 3}})),
    (Counter[str], Counter(a=2)),
    (deque[int], deque([1, 2])),
    (complex, 1 + 2j),
    (HttpUrl, HttpUrl("https://example.org/")),
    (PurePosixPath, PurePosixPath("/x")),
    (dict[Colour, Cat], {Colour.RED: Cat(lives=1)}),
    (dt.timedelta, dt.timedelta(days=-3, microseconds=1)),
    (dt.time, dt.time(1, 2, 3, 4)),
    (Decimal, Decimal("-1.500")),
    (set[int], {3, 1}),
    (Any, {"a": [1, None]}),
    (None, None),
    (float, 2.0),
]


@pytest.mark.parametrize(("kind", "value"), TYPED)
async def test_typed_value_survives_round_trip(kind: Any, value: Any) -> None:
    received, result = await through(value, kind)

    assert received == result == value
    assert type(received) is type(result) is type(value)


def test_model_has_same_bytes_as_its_dict() -> None:
    plain = {
        "order-id": 1.0,
        "when": None,
        "tags": [],
        "pets": [],
        "price": "1.50",
        "where": "/",
        "data": "",
        "text": "",
    }
    call = CODEC.encode_call("task", (Order.model_validate({"order-id": 1}),), {})

    assert call == JsonCodec().encode_call("task", ({**plain, "parsed": "[]", "colour": "red"},), {})


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("aé😀\ue0001"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("aé1"), inner, max_size=4),
    max_leaves=15,
)


@settings(deadline=None)
@given(st.lists(PLAIN, max_size=3), st.dictionaries(st.text("ab", min_size=1), PLAIN, max_size=2))
async def test_plain_data_has_same_bytes_as_json_codec(args: list[Any], kwargs: dict[str, Any]) -> None:
    async def task(*args: Any, **kwargs: Any) -> Any:
        return [args, kwargs]

    call = CODEC.encode_call("task", args, kwargs)

    assert call == JsonCodec().encode_call("task", args, kwargs)
    assert await CODEC.invoke_task(call, task) == await JsonCodec().invoke_task(call, task)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Cat, {"lives": 1, "new": 2}),
        (list[Cat | Dog], [{"kind": "dog", "name": "x", "new": 1}]),
        (Point, {"x": 1, "new": 2}),
        (One, {"a": 1, "new": 2}),
        (Closed, {"x": 1, "open": {"x": 1}, "new": 2}),
        (Closed, {"x": 1, "open": {"x": 1, "more": 2}, "new": 3}),
    ],
)
async def test_unknown_field_of_argument_is_refused(kind: Any, value: Any) -> None:
    seen: list[Any] = []

    with pytest.raises(
        DecodeError, match=r"a value of type .* to parameter 'value': .*new: .*(permitted|Unexpected)"
    ) as caught:
        await CODEC.invoke_task(CODEC.encode_call("task", (value,), {}), asking_for(kind, seen))

    assert caught.value.retry
    assert not seen


async def test_model_that_allows_extra_fields_receives_them() -> None:
    received, _ = await through({"x": 1, "open": {"x": 2, "more": 3}}, Closed)

    assert received.open.model_extra == {"more": 3}


def test_unknown_field_of_result_is_dropped() -> None:
    assert CODEC.decode_return("task", b'{"lives":1,"new":2}', returns=Cat) == Cat(lives=1)


async def test_error_for_invalid_argument_names_field_but_not_value() -> None:
    with pytest.raises(DecodeError, match=r"lives: Input should be greater than 0") as caught:
        await CODEC.invoke_task(CODEC.encode_call("task", ({"lives": -12345},), {}), asking_for(Cat, []))

    assert "12345" not in str(caught.value)


def broken_cat() -> Cat:
    cat = Cat(lives=1)
    cat.lives = "many"  # type: ignore[assignment]
    return cat


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"x", "pydantic reads bytes as text or as base64"),
        ([b"x"], "pydantic reads bytes as text or as base64"),
        (SecretStr("x"), "asterisks"),
        (Keeper(secret=SecretStr("x")), "asterisks"),
        (Split.model_validate({"read": 1}), "a field is written as 'written' but not read under that name"),
        ([Configured(x=b"YQ==")], "model_config sets val_json_bytes"),
        (Order.model_validate({"order-id": 1, "text": b"\xff"}), "Base64Bytes"),
        (broken_cat(), "lives"),
        (iter([1]), "would consume the iterator"),
        (object(), "object"),
        (float("nan"), "JSON has no number"),
        (Open.model_validate({"x": 1, "more": float("inf")}), "JSON has no number"),
    ],
)
def test_value_that_pydantic_would_read_differently_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(EncodeError, match=reason):
        CODEC.encode_call("task", (value,), {})


@pytest.mark.parametrize("kind", [object.__class__, msgspec.Struct, complex.__add__])
def test_annotation_unknown_to_pydantic_is_refused(kind: Any) -> None:
    class Unknown:
        pass

    async def task() -> None:
        raise AssertionError("is not run")

    with pytest.raises(HandlerError, match=r"the result of handler .*task is annotated with"):
        CODEC.check_task(task, returns=Unknown)


async def test_field_serializer_is_used() -> None:
    assert CODEC.encode_call("task", (Hexed(number=255),), {}).payload == b'[{"number":"0xff"}]'


async def test_set_in_model_is_encoded_in_one_order() -> None:
    payloads = {
        CODEC.encode_call("task", (Order.model_validate({"order-id": 1, "tags": tags}),), {}).payload
        for tags in ({"a", "b", "c"}, {"c", "b", "a"})
    }

    assert len(payloads) == 1


@brrr.handler_no_arg
async def adopt(pet: Cat | Dog, count: PositiveInt = 1) -> list[Cat | Dog]:
    return [pet] * count


@brrr.handler
async def household(app: brrr.ActiveWorker, order: Order) -> list[Cat | Dog]:
    return [pet for pets in await app.gather(*(app.call(adopt)(pet) for pet in order.pets)) for pet in pets]


async def test_workflow_with_models_runs() -> None:
    app = brrr.LocalBrrr(handlers={"household": household, "adopt": adopt}, codec="pydantic")

    assert await app.run(household)(FULL) == FULL.pets


async def test_result_that_does_not_fit_its_annotation_fails_the_call() -> None:
    @brrr.handler_no_arg
    async def wrong() -> Cat:
        return Dog(name="x")  # type: ignore[return-value]

    with pytest.raises(EncodeError, match="the result of task 'wrong' does not fit its annotation"):
        await brrr.LocalBrrr(handlers={"wrong": wrong}, codec="pydantic").run("wrong")()
