"""The codecs under test, and a helper that sends a value through one."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from brrr_core.codec import Codec
from brrr_core.codec.json import JsonCodec, JsonObjectCodec
from brrr_core.codec.msgpack import MsgpackCodec

Through = Callable[[Codec, Any, Any], Awaitable[tuple[Any, Any]]]


@pytest.fixture(params=[JsonCodec, MsgpackCodec], ids=["json", "msgpack"])
def codec(request: pytest.FixtureRequest) -> Codec:
    """Each codec that takes positional arguments."""
    return request.param()


@pytest.fixture(params=[JsonCodec, JsonObjectCodec, MsgpackCodec], ids=["json", "json-object", "msgpack"])
def any_codec(request: pytest.FixtureRequest) -> Codec:
    """Each codec. Use it with keyword arguments."""
    return request.param()


@pytest.fixture(scope="session")
def through() -> Through:
    """Return a function that sends a value through a codec as an argument, and back as a result, of a given type."""

    async def send(codec: Codec, value: Any, kind: Any = Any) -> tuple[Any, Any]:
        received: list[Any] = []

        async def echo(value: Any) -> Any:
            received.append(value)
            return value

        parameter = inspect.Parameter("value", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind)
        echo.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
        payload = await codec.invoke_task(codec.encode_call("echo", (), {"value": value}), echo)
        return received[0], codec.decode_return("echo", payload, returns=kind)

    return send
