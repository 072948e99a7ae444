"""The same call has the same bytes in every process, in any order of dicts and sets."""

import dataclasses
import os
import subprocess
import sys
from collections import OrderedDict
from enum import Enum
from random import Random
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brrr_core.codec import Codec
from brrr_core.codec.json import JsonCodec, JsonObjectCodec
from brrr_core.codec.msgpack import MsgpackCodec
from brrr_core.errors import EncodeError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text("aé😀\ue000"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("aé😀\ue000"), inner, max_size=5),
    max_leaves=25,
)


def shuffled(value: Any, random: Random) -> Any:
    """Return the same value with its dicts filled in another order."""
    if isinstance(value, dict):
        items = [(key, shuffled(member, random)) for key, member in value.items()]
        random.shuffle(items)
        return dict(items)
    return [shuffled(element, random) for element in value] if isinstance(value, list) else value


@settings(deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1), VALUES, max_size=4), st.randoms())
def test_order_of_keys_does_not_change_the_call(kwargs: dict[str, Any], random: Random) -> None:
    for codec in (JsonCodec(), JsonObjectCodec(), MsgpackCodec()):
        try:
            call = codec.encode_call("task", (), kwargs)
        except EncodeError:  # JSON cannot write an infinity
            continue
        assert codec.encode_call("task", (), shuffled(kwargs, random)) == call


HASHES = """
from enum import Enum
from brrr_core.codec.json import JsonCodec
from brrr_core.codec.msgpack import MsgpackCodec
Colour = Enum("Colour", "RED GREEN BLUE")
sets = {"b", "a", "é", 10, 9, 1.5, None, ("t", 1), *(frozenset({x, "x", frozenset({x})}) for x in "pqrst"), *Colour}
for codec in JsonCodec(), MsgpackCodec():
    print(codec.encode_call("task", (sets, {"k": [sets]}), {"x": sets}).call_hash)
"""


def test_hash_seed_does_not_change_the_order_of_sets() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", HASHES],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(4)
    }

    assert len(outputs) == 1
    assert len(outputs.pop().split()) == 2


def test_set_is_written_as_array_sorted_by_encoded_elements() -> None:
    call = JsonCodec().encode_call("task", ({"b", 10, 9, (2.0, 1), "a"}, frozenset()), {})

    assert call.payload == b'[["a","b",10,9,[2,1]],[]]'


@dataclasses.dataclass(frozen=True)
class Point:
    tags: frozenset[Any]
    weight: float = 0.5


@attrs.frozen
class AttrsPoint:
    tags: frozenset[Any]
    weight: float = 0.5


class StructPoint(msgspec.Struct, frozen=True, tag="point", rename="camel"):
    tags: frozenset[Any]
    the_weight: float = 0.5


class ArrayPoint(msgspec.Struct, frozen=True, array_like=True, tag=True):
    tags: frozenset[Any]
    weight: float = 0.5


class Weight(Enum):
    WHOLE = 2.0


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Point, '{"tags":["a",1,["b"]],"weight":2}'),
        (AttrsPoint, '{"tags":["a",1,["b"]],"weight":2}'),
        (StructPoint, '{"tags":["a",1,["b"]],"theWeight":2,"type":"point"}'),
        (ArrayPoint, '["ArrayPoint",["a",1,["b"]],2]'),
    ],
)
def test_fields_are_canonical_and_original_object_is_unchanged(kind: Any, text: str) -> None:
    tags = frozenset({"a", 1, frozenset("b")})
    point = kind(tags, 2.0)

    assert JsonCodec().encode_call("task", (point,), {}).payload.decode() == f"[{text}]"
    assert point == kind(tags, 2.0)
    assert JsonCodec().encode_call("task", ([Weight.WHOLE],), {}).payload == b"[[2]]"


def test_unset_field_is_omitted(codec: Codec) -> None:
    @dataclasses.dataclass
    class Patch:
        name: Any
        size: Any

    patch, same = Patch(msgspec.UNSET, {1.5, "a"}), {"size": {1.5, "a"}}

    assert codec.encode_call("task", (patch,), {}) == codec.encode_call("task", (same,), {})


def test_default_is_omitted_even_if_it_is_another_equal_object(codec: Codec) -> None:
    class Greeting(msgspec.Struct, omit_defaults=True):
        whom: str
        text: str = "hello world"

    literal, computed = Greeting("you"), Greeting("you", "".join(["hello", " world"]))

    assert codec.encode_call("task", (computed,), {}) == codec.encode_call("task", (literal,), {})
    assert b"text" not in codec.encode_call("task", (literal,), {}).payload
    assert b"text" in codec.encode_call("task", (Greeting("you", "bye"),), {}).payload


def test_equal_value_of_another_type_than_the_default_is_written(codec: Codec) -> None:
    class Retry(msgspec.Struct, omit_defaults=True):
        times: int | bool = 1

    assert codec.encode_call("task", (Retry(True),), {}) == codec.encode_call("task", ({"times": True},), {})


def test_subclass_of_container_is_written_as_that_container(codec: Codec) -> None:
    class Names(list[str]):
        pass

    ordered = OrderedDict(b=Names("x"), a=(1,))

    assert codec.encode_call("task", (ordered,), {}) == codec.encode_call("task", [{"a": [1], "b": ["x"]}], {})


def test_all_nans_have_same_msgpack_hash() -> None:
    nan = float("nan")
    hashes = {MsgpackCodec().encode_call("task", (value,), {}).call_hash for value in (nan, -nan, [nan][0])}

    assert len(hashes) == 1


def test_msgpack_map_is_sorted_by_encoded_keys() -> None:
    codec = MsgpackCodec()
    one = {"a": 1, 2: {(1, "x"): 2.0}, b"b": 3, None: 4, 1.5: 5}
    two = {1.5: 5, None: 4, b"b": 3, 2: {(1, "x"): 2.0}, "a": 1}

    assert codec.encode_call("task", (one,), {}) == codec.encode_call("task", (two,), {})
    assert msgspec.msgpack.decode(codec.encode_call("task", (one,), {}).payload) == [one]


@pytest.mark.parametrize("size", [0, 15, 16, 65535, 65536])
def test_msgpack_map_of_any_size_can_be_decoded(size: int) -> None:
    numbers = dict.fromkeys(range(size))

    assert msgspec.msgpack.decode(MsgpackCodec().encode_call("task", (numbers,), {}).payload) == [numbers]
