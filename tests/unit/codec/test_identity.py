"""Which arguments make the same call, and which make different calls."""

import uuid
from enum import Enum, IntEnum, StrEnum
from typing import Any

import pytest

from brrr_core.codec import Codec
from brrr_core.codec.json import JsonCodec, JsonObjectCodec
from brrr_core.codec.msgpack import MsgpackCodec
from brrr_core.errors import EncodeError


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Opaque(Enum):
    ONE = 1


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((1,), {}),
    ((None,), {}),
    (("1",), {}),
    (([1],), {}),
    ((1, 2), {}),
    (([1, 2],), {}),
    ((), {"n": 1}),
    (({"n": 1},), {}),
    ((1,), {"n": 1}),
    ((), {"args": [1], "kwargs": {}}),
    (({"args": [1], "kwargs": {}},), {}),
    ((1,), {"kwargs": {}}),
    (([], {"n": 1}), {}),
]


def test_different_arguments_never_make_the_same_call(codec: Codec) -> None:
    calls = [codec.encode_call("task", args, kwargs) for args, kwargs in CALLS]

    assert len({call.payload for call in calls}) == len({call.call_hash for call in calls}) == len(CALLS)


def test_task_name_cannot_be_confused_with_arguments(codec: Codec) -> None:
    assert codec.encode_call('a",["b', (), {}).call_hash != codec.encode_call("a", ("b",), {}).call_hash


def test_list_and_tuple_make_the_same_call(codec: Codec) -> None:
    assert codec.encode_call("task", [(1, 2)], {}) == codec.encode_call("task", ([1, 2],), {})


def test_whole_float_and_int_are_the_same_in_json_only() -> None:
    json, msgpack = JsonCodec(), MsgpackCodec()

    assert json.encode_call("task", (1.0,), {}) == json.encode_call("task", (1,), {})
    assert msgpack.encode_call("task", (1.0,), {}) != msgpack.encode_call("task", (1,), {})


@pytest.mark.parametrize(
    ("key", "name"),
    [(1, "1"), (-5, "-5"), (2**70, str(2**70)), (Colour.RED, "red"), (Level.LOW, "1"), (Opaque.ONE, "1"),
     (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"), (b"ab", "YWI=")],
)  # fmt: skip
def test_json_key_is_written_as_text(key: object, name: str) -> None:
    codec = JsonCodec()

    assert codec.encode_call("task", ({key: 2.0, "x": 1},), {}) == codec.encode_call("task", ({name: 2, "x": 1},), {})


def test_key_of_str_subclass_is_written_as_str(codec: Codec) -> None:
    class Name(str):
        __slots__ = ()

    named, plain = {Name("x"): 1, "a": 2}, {"x": 1, "a": 2}

    assert codec.encode_call("task", (named,), {}) == codec.encode_call("task", (plain,), {})


@pytest.mark.parametrize("key", [True, None, 1.5, (1, 2)])
def test_key_that_json_cannot_write_is_refused(key: object) -> None:
    with pytest.raises(EncodeError, match=rf"args\[0\].*key of type {type(key).__name__}"):
        JsonCodec().encode_call("task", ({key: 1},), {})


def test_two_keys_with_same_written_form_are_refused(codec: Codec) -> None:
    with pytest.raises(EncodeError, match=r"args\[1\]\['in'\].*two of its keys are both written as"):
        codec.encode_call("task", (1, {"in": {Opaque.ONE: "a", 1: "b"}}), {})


def test_json_refuses_number_and_its_text_as_two_keys() -> None:
    with pytest.raises(EncodeError, match="two of its keys are both written as '1'"):
        JsonCodec().encode_call("task", ({1: "a", "1": "b"},), {})


def test_json_object_writes_no_arguments_as_empty_object() -> None:
    assert JsonObjectCodec().encode_call("task", (), {}).payload == b"[{}]"


def test_only_json_object_is_keyword_only() -> None:
    assert JsonObjectCodec.keyword_only
    assert not JsonCodec.keyword_only
    assert not MsgpackCodec.keyword_only
    with pytest.raises(EncodeError, match=r"'task' with 2 positional arguments, the first of type int.*by name"):
        JsonObjectCodec().encode_call("task", (1, 2), {"x": 1})
