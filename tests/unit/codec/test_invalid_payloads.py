"""Whatever bytes come in, a decoder gives a value or raises DecodeError."""

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


# Bytes that nearly mean something get further in than noise.
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
async def test_any_bytes_are_decoded_or_refused(payload: bytes) -> None:
    for codec in CODECS:
        for task in (untyped, typed):
            with suppress(DecodeError):
                await codec.invoke_task(Call("task", payload, "hash"), task)
        for kind in (Any, int, Point, dict[str, bytes]):
            with suppress(DecodeError):
                codec.decode_return("task", payload, returns=kind)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":', b"\x91", b"\x81\xa1a"])
async def test_endless_nesting_is_refused(opening: bytes) -> None:
    for codec in CODECS:
        with pytest.raises(DecodeError):
            codec.decode_return("task", opening * 100_000)
        with pytest.raises(DecodeError):
            await codec.invoke_task(Call("task", opening * 100_000, "hash"), untyped)


@pytest.mark.parametrize(
    "payload", [b"", b"[1] ]", b"1", b'"x"', b"null", b'{"args":[1]}', b'{"args":[],"kwargs":{},"x":1}']
)
async def test_a_payload_of_another_shape_is_named(payload: bytes) -> None:
    with pytest.raises(
        DecodeError, match=rf"arguments of task 'fib', {len(payload)} bytes, are no payload of the json codec"
    ):
        await JsonCodec().invoke_task(Call("fib", payload, "hash"), untyped)


def test_a_result_names_the_task_and_the_type_that_was_asked_for(codec: Codec) -> None:
    with pytest.raises(
        DecodeError, match=r"the result of task 'fib', 1 bytes, .* codec as list\[int\]: Expected `array`"
    ):
        codec.decode_return("fib", b"1", returns=list[int])
    with pytest.raises(DecodeError, match=r"the result of task 'fib', 2 bytes, cannot be read by the \w+ codec: "):
        codec.decode_return("fib", b"\xff[")


def test_msgpack_has_no_empty_result() -> None:
    with pytest.raises(DecodeError, match=r"the result of task 'fib', 0 bytes, cannot be read by the msgpack codec: "):
        MsgpackCodec().decode_return("fib", b"")


@pytest.mark.parametrize("json", [JsonCodec(), JsonObjectCodec()], ids=["json", "json-object"])
def test_empty_json_result_is_the_undefined_of_typescript(json: Codec) -> None:
    for kind in (Any, None, int | None):
        assert json.decode_return("fib", b"", returns=kind) is None
    with pytest.raises(DecodeError, match="Expected `int`, got `null`"):
        json.decode_return("fib", b"", returns=int)


def test_a_type_that_nothing_is_decoded_to_is_named(codec: Codec) -> None:
    with pytest.raises(
        DecodeError, match=r"the result of task 'fib', .*as <class 'complex'>: nothing is decoded to a complex"
    ):
        codec.decode_return("fib", b"1", returns=complex)


def test_whatever_a_class_raises_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match="'not this one'") as caught:
        JsonCodec().decode_return("fib", b'{"x":1}', returns=Picky)
    assert isinstance(caught.value.__cause__, KeyError)
