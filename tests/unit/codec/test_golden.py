"""The calls of the golden file have the bytes and hashes of the TypeScript SDK."""

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from brrr_core import wire
from brrr_core.codec import Codec
from brrr_core.codec.json import JsonCodec, JsonObjectCodec

GOLDEN = json.loads((Path(__file__).parents[3] / "docs/reference/protocol/golden.json").read_text())
CALLS: list[dict[str, Any]] = GOLDEN["call_json"]


def test_golden_file_has_three_calls() -> None:
    assert len(CALLS) == 3


@pytest.mark.parametrize("golden", CALLS, ids=lambda golden: golden["payload"])
def test_positional_object_makes_same_call_as_typescript_sdk(golden: dict[str, Any]) -> None:
    call = JsonCodec().encode_call(golden["task_name"], golden["args"], {})

    assert call.payload == golden["payload"].encode()
    assert call.call_hash == golden["call_hash"]
    assert wire.encode_call(call).hex() == golden["record_hex"]


@pytest.mark.parametrize("golden", GOLDEN["call_json_array_indices"], ids=lambda golden: golden["payload"])
def test_array_index_keys_are_in_javascript_order(golden: dict[str, Any]) -> None:
    call = JsonCodec().encode_call(golden["task_name"], golden["args"], {})
    named = JsonObjectCodec().encode_call(golden["task_name"], (), golden["args"][0])

    assert (call.payload.decode(), call.call_hash) == (golden["payload"], golden["call_hash"])
    assert named == call


@pytest.mark.parametrize("golden", CALLS, ids=lambda golden: golden["payload"])
def test_keyword_arguments_make_same_call_as_typescript_function_of_one_object(golden: dict[str, Any]) -> None:
    call = JsonObjectCodec().encode_call(golden["task_name"], (), golden["args"][0])

    assert (call.payload.decode(), call.call_hash) == (golden["payload"], golden["call_hash"])


async def test_python_handler_runs_call_of_typescript_client() -> None:
    async def fib(n: int, salt: str | None = None) -> tuple[int, str | None]:
        return n, salt

    codec = JsonObjectCodec()
    results = [
        await codec.invoke_task(wire.decode_call(golden["call_hash"], bytes.fromhex(golden["record_hex"])), fib)
        for golden in CALLS
    ]

    assert results == [b"[11,null]", b"[11,null]", b'[11,"abcd"]']


def test_json_hash_is_sha256_of_task_name_and_payload() -> None:
    call = JsonCodec().encode_call('é"', (1, "x"), {})

    assert call.call_hash == sha256('["é\\"",[1,"x"]]'.encode()).hexdigest()


def test_hash_is_printable_and_depends_on_task_name(any_codec: Codec) -> None:
    hashes = {any_codec.encode_call(name, (), {"n": 1}).call_hash for name in ("fib", "fob", "", "é😀")}

    assert len(hashes) == 4
    assert all(re.fullmatch(r"[0-9a-f]{64}", call_hash) for call_hash in hashes)
