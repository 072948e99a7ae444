"""A decoder returns a value or raises DecodeError, for any bytes."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brrr_core.codec import Codec
from brrr_core.codec.json import JsonCodec, JsonObjectCodec
from brrr_core.codec.msgpack import MsgpackCodec
from brrr_core.errors import DecodeError
from brrr_core.wire import Call

CODECS = [JsonCodec(), JsonObjectCodec(), MsgpackCodec()]


@dataclass
class Point:
    x: int
    tags: set[str]


class Picky(msgspec.Struct):
    x: int

    def __post_init__(self) -> None:
        raise KeyError("not this one")


async def untyped(*args: Any, **kwargs: Any) -> None:
    return None


async def typed(point: Point, when: float = 0, *rest: bytes) -> None:
    return None


# Nearly valid bytes get further into a decoder than noise.
PIECES = [
    *(
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b"1",
        b"-",
        b"1e999",
        b"null",
        b'"x"',
        b'"\xff"',
        b'"a":',
        b'"args":',
        b'"kwargs":',
    ),
    *(b"\x91", b"\x92", b"\x81", b"\x82", b"\xa4args", b"\xa6kwargs", b"\xa1x", b"\xa1\xff", b"\xc1"),
    *(b"\xd6\xff\0\0\0\0", b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff"),
]
NEARLY = st.lists(st.sampled_from(PIECES)).map(b"".join)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=64) | NEARLY)
async def test_any_bytes_are_decoded_or_raise_decode_error(payload: bytes) -> None:
    for codec in CODECS:
        for task in (untyped, typed):
            with suppress(DecodeError):
                await codec.invoke_task(Call("task", payload, "hash"), task)
        for kind in (Any, int, Point, dict[str, bytes]):
            with suppress(DecodeError):
                codec.decode_return("task", payload, returns=kind)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":', b"\x91", b"\x81\xa1a"])
async def test_deep_nesting_raises_decode_error(opening: bytes) -> None:
    for codec in CODECS:
        with pytest.raises(DecodeError):
            codec.decode_return("task", opening * 100_000)
        with pytest.raises(DecodeError):
            await codec.invoke_task(Call("task", opening * 100_000, "hash"), untyped)


@pytest.mark.parametrize(
    "payload", [b"", b"[1] ]", b"1", b'"x"', b"null", b'{"args":[1]}', b'{"args":[],"kwargs":{},"x":1}']
)
async def test_error_names_task_and_size_of_payload_with_wrong_shape(payload: bytes) -> None:
    with pytest.raises(
        DecodeError, match=rf"arguments of task 'fib', {len(payload)} bytes, are not a payload of the json codec"
    ):
        await JsonCodec().invoke_task(Call("fib", payload, "hash"), untyped)


def test_error_for_result_names_task_and_requested_type(codec: Codec) -> None:
    with pytest.raises(
        DecodeError, match=r"the result of task 'fib', 1 bytes, .* codec as list\[int\]: Expected `array`"
    ):
        codec.decode_return("fib", b"1", returns=list[int])
    with pytest.raises(DecodeError, match=r"the result of task 'fib', 2 bytes, cannot be read by the \w+ codec: "):
        codec.decode_return("fib", b"\xff[")


def test_empty_msgpack_result_raises_decode_error() -> None:
    with pytest.raises(DecodeError, match=r"the result of task 'fib', 0 bytes, cannot be read by the msgpack codec: "):
        MsgpackCodec().decode_return("fib", b"")


@pytest.mark.parametrize("json", [JsonCodec(), JsonObjectCodec()], ids=["json", "json-object"])
def test_empty_json_result_is_read_as_null(json: Codec) -> None:
    for kind in (Any, None, int | None):
        assert json.decode_return("fib", b"", returns=kind) is None
    with pytest.raises(DecodeError, match="Expected `int`, got `null`"):
        json.decode_return("fib", b"", returns=int)


def test_error_names_type_that_cannot_be_decoded(codec: Codec) -> None:
    with pytest.raises(
        DecodeError, match=r"the result of task 'fib', .*as <class 'complex'>: the codec cannot decode to complex"
    ):
        codec.decode_return("fib", b"1", returns=complex)


def test_any_exception_of_a_decoded_class_becomes_decode_error() -> None:
    with pytest.raises(DecodeError, match="'not this one'") as caught:
        JsonCodec().decode_return("fib", b'{"x":1}', returns=Picky)
    assert isinstance(caught.value.__cause__, KeyError)
