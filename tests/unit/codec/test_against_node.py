"""The canonical form of the codec `json` equals that of Node: numbers, texts, and the order of keys."""

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brrr_core.codec.json import JsonCodec, number_text

# Reads one JSON document per line and writes its canonical form: JSON.stringify of objects with keys added in order.
SCRIPT = """
const sorted = value =>
  Array.isArray(value) ? value.map(sorted)
  : value !== null && typeof value === "object"
    ? Object.fromEntries(Object.keys(value).sort().map(key => [key, sorted(value[key])]))
  : value;
const canonical = value => JSON.stringify(sorted(value));
const hash = text => require("crypto").createHash("sha256").update(text, "utf8").digest("hex");
require("readline").createInterface({input: process.stdin}).on("line", line => {
  const args = JSON.parse(line);
  process.stdout.write(JSON.stringify([canonical(args), hash(canonical(["task", args]))]) + "\\n");
});
"""

Canonical = Callable[[Any], list[str]]


@pytest.fixture(scope="module")
def node() -> Iterator[Canonical]:
    """A function that returns Node's canonical JSON of arguments, and the hash of the call of `task` with them."""
    program = shutil.which("node")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("node is not installed, and CI must run this comparison")
        pytest.skip("node is not installed")
    with subprocess.Popen([program, "-e", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def canonical(args: Any) -> list[str]:
            stdin.write(json.dumps(args).encode() + b"\n")
            stdin.flush()
            return json.loads(stdout.readline())

        yield canonical
        stdin.close()
        process.wait(timeout=10)


def ours(args: Any) -> list[str]:
    call = JsonCodec().encode_call("task", args, {})
    return [call.payload.decode(), call.call_hash]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('\0\x1f\x7f"\\/\b\f\u2028\ue000\uffff😀𐀀'))
NUMBERS = (
    st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-400, 400).map(lambda exponent: 1.5 * 10.0 ** (exponent / 20))
    | st.integers(-30, 30).map(lambda exponent: -(10.0**exponent))
)
INDICES = st.integers(0, 120).map(str) | st.sampled_from(
    ["00", "01", "-1", "1.5", "1e3", "4294967293", "4294967294", "4294967295", "4294967296", "10000000000", "٣", "²"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS | INDICES, inner, max_size=6),
    max_leaves=20,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(VALUES, max_size=4))
def test_any_arguments_have_same_payload_and_hash_as_in_node(node: Canonical, args: list[Any]) -> None:
    assert ours(args) == node(args)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=800, max_size=800))
def test_any_float_is_written_as_in_node(node: Canonical, bits: bytes) -> None:
    floats = [value for (value,) in struct.iter_unpack("<d", bits) if value - value == 0]

    assert ours([floats]) == node([floats])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (123456.789, "123456.789"),
        (1e-5, "0.00001"),
        (1.5e-6, "0.0000015"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (1.5e-7, "1.5e-7"),
        (2.0**53, "9007199254740992"),
        (2.0**69, "590295810358705700000"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (-1.25e21, "-1.25e+21"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
    ],
)
def test_float_is_written_as_in_javascript(value: float, text: str) -> None:
    assert JsonCodec().encode_call("task", (value,), {}).payload.decode() == f"[{text}]"
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "10": 2, "9": 3}, '{"9":3,"10":2,"b":1}'),
        ({"a": [{"10": {"2": 0, "1": 0}, "9": 0}]}, '{"a":[{"9":0,"10":{"1":0,"2":0}}]}'),
        ({10: 1, 9: 2, -1: 3}, '{"9":2,"10":1,"-1":3}'),
        (
            {"4294967295": 0, "4294967294": 0, "01": 0, "0": 0},
            '{"0":0,"4294967294":0,"01":0,"4294967295":0}',
        ),
    ],
)
def test_array_index_keys_come_first_sorted_by_value(node: Canonical, value: object, text: str) -> None:
    assert JsonCodec().encode_call("task", (value,), {}).payload.decode() == f"[{text}]"
    assert node([value])[0] == f"[{text}]"


def test_renamed_struct_fields_are_in_javascript_order() -> None:
    class Row(msgspec.Struct, rename={"ten": "10", "nine": "9"}, tag=True):
        ten: float
        nine: float

    payload = JsonCodec().encode_call("task", (Row(1.0, 1e21),), {}).payload

    assert payload == b'[{"9":1e+21,"10":1,"type":"Row"}]'


def test_keys_are_sorted_by_utf_16_code_units() -> None:
    # By code points U+E000 would come first.
    assert JsonCodec().encode_call("task", ({"\ue000": 1, "😀": 2.0},), {}).payload.decode() == '[{"😀":2,"\ue000":1}]'
