"""Values that cannot be encoded: the error names the task, the argument, the path in it, and the type."""

import dataclasses
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import pytest

from brrr_core.codec import Codec
from brrr_core.codec.json import JsonCodec, JsonObjectCodec
from brrr_core.codec.msgpack import MsgpackCodec
from brrr_core.errors import EncodeError


class Text(str):
    __slots__ = ()


class Integer(int):
    """A subclass of int. numpy's floats subclass the builtin in this way; its integers do not."""


@dataclasses.dataclass
class Box:
    inside: object


class StructBox(msgspec.Struct):
    inside: object


class Faulty:
    pass


@dataclasses.dataclass
class Locked:
    """A dataclass with a field that raises when it is read."""

    inside: int = 0

    def __getattribute__(self, name: str) -> Any:
        if name == "inside":
            raise KeyError("locked")
        return super().__getattribute__(name)


REFUSED: list[tuple[object, str]] = [
    (Faulty(), "Faulty"),
    (1j, "complex"),
    (PurePosixPath("x"), f"{PurePosixPath.__module__}.PurePosixPath"),  # `pathlib._local` from Python 3.13 on
    (Text("x"), "Text"),
    (Integer(1), "Integer"),
    (range(10**12), "range"),
    (iter([1]), "list_iterator"),
    (object, "type"),
    (len, "builtin_function_or_method"),
    ("\ud800", "str"),
    (msgspec.Raw(b"1"), "Raw"),
    (Locked(), "Locked"),
]


@pytest.mark.parametrize(("value", "kind"), REFUSED, ids=[kind for _, kind in REFUSED])
def test_error_names_argument_with_path_and_type(codec: Codec, value: object, kind: str) -> None:
    for argument, path in [
        (value, ""),
        ([1, (2, value)], r"[1][1]"),
        ({"a": {"b": [value]}}, "['a']['b'][0]"),
        (Box({"k": value}), ".inside['k']"),
        (StructBox(Box(value)), ".inside.inside"),
    ]:
        with pytest.raises(EncodeError) as by_position:
            codec.encode_call("resize", (1, argument), {"ok": 1})
        with pytest.raises(EncodeError) as by_name:
            codec.encode_call("resize", (1,), {"image": argument})

        subject, _, type_and_reason = by_position.value.what.partition(" of a call of task 'resize', of type ")
        assert subject == f"the {codec.name} codec cannot encode args[1]{path}"  # type: ignore[attr-defined]
        assert kind in type_and_reason.partition(":")[0]
        assert f"encode kwargs['image']{path} of a call of task 'resize', of type " in by_name.value.what
        assert by_name.value.remedy
        assert by_name.value.__cause__ is not None


def test_path_shortens_long_keys_and_never_calls_repr_of_other_keys() -> None:
    class Key:
        def __repr__(self) -> str:
            raise AssertionError("is not shown")

    with pytest.raises(EncodeError, match=r"args\[0\]\['a{39}…\]\[a .*Key\] of a call"):
        MsgpackCodec().encode_call("task", ({"a" * 100: {Key(): 1j}},), {})


def test_unset_outside_of_fields_is_refused(codec: Codec) -> None:
    with pytest.raises(EncodeError, match=r"args\[0\]\[0\] of a call of task 'task', of type .*UnsetType"):
        codec.encode_call("task", ([msgspec.UNSET],), {})


def test_error_names_element_of_set() -> None:
    with pytest.raises(EncodeError, match=r"args\[0\]\[\d\] of a call of task 'task', of type complex"):
        JsonCodec().encode_call("task", ({1, 1j, "a"},), {})


def test_error_of_json_object_names_keyword() -> None:
    with pytest.raises(
        EncodeError, match=r"json-object codec cannot encode kwargs\['n'\]\[0\] of a call of task 'fib'"
    ):
        JsonObjectCodec().encode_call("fib", (), {"n": [1j]})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"a": [x]}, Box, StructBox, lambda x: {x}, lambda x: (x, 1.5)])
async def test_json_refuses_nan_and_infinities(number: float, wrap: Callable[[float], object]) -> None:
    async def task() -> object:
        return wrap(number)

    codec = JsonCodec()
    with pytest.raises(EncodeError, match=rf"args\[0\].* of type float: JSON has no number for {number}"):
        codec.encode_call("task", (wrap(number),), {})
    with pytest.raises(
        EncodeError, match=rf"the result of task 'task'.* of type float: JSON has no number for {number}"
    ):
        await codec.invoke_task(codec.encode_call("task", (), {}), task)


async def test_error_for_result_names_path_and_type(codec: Codec) -> None:
    async def task() -> object:
        return {"thumbnails": [1, Path()]}

    with pytest.raises(EncodeError, match=r"the result of task 'resize' at \['thumbnails'\]\[1\], of type pathlib\."):
        await codec.invoke_task(codec.encode_call("resize", (), {}), task)


async def test_result_with_two_keys_of_same_written_form_is_refused() -> None:
    async def task() -> object:
        return {1: "a", "1": "b"}

    with pytest.raises(EncodeError, match="the result of task 'task', of type dict: two of its keys"):
        await JsonCodec().invoke_task(JsonCodec().encode_call("task", (), {}), task)


def test_value_that_contains_itself_is_refused(codec: Codec) -> None:
    loop: list[object] = []
    loop.append({"x": loop})

    with pytest.raises(EncodeError, match=r"args\[0\].*nested too deeply, or contains itself"):
        codec.encode_call("task", (loop,), {})


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1])
def test_msgpack_refuses_integers_beyond_64_bits(number: int) -> None:
    with pytest.raises(EncodeError, match=r"args\[0\]\['n'\] of a call of task 'task', of type int: .*2\*\*63"):
        MsgpackCodec().encode_call("task", ({"n": number},), {})


def test_json_refuses_integer_that_it_could_not_read_back() -> None:
    with pytest.raises(EncodeError, match=r"args\[0\].* of type int: .*4300 digits"):
        JsonCodec().encode_call("task", (10**4300,), {})


def test_task_name_that_is_not_utf_8_is_refused(any_codec: Codec) -> None:
    with pytest.raises(EncodeError, match=r"a call of task '\\ud800'"):
        any_codec.encode_call("\ud800", (), {"n": 1})


def test_keyword_that_is_not_utf_8_is_refused(any_codec: Codec) -> None:
    with pytest.raises(EncodeError, match="a call of task 'task'"):
        any_codec.encode_call("task", (), {"\ud800": 1})


def test_nan_decimal_is_written_as_text_like_other_decimals() -> None:
    assert JsonCodec().encode_call("task", (Decimal("NaN"), Decimal("1.0")), {}).payload == b'["NaN","1.0"]'
