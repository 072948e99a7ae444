"""Parameters that are `Added` keep the identity of the calls that do not use them."""

import json
from pathlib import Path
from typing import Annotated, Any

import pytest

import brrr_core as brrr
from brrr_core.app.catalogue import arranging
from brrr_core.errors import HandlerError
from brrr_core.plugins import load_codec
from brrr_core.wire import Call

GOLDEN = Path(__file__).parents[3] / "docs/reference/protocol/golden.json"
CODECS = ["json", "json-object", "msgpack"]


async def before(a: int) -> int:
    return a


async def after(a: int, b: brrr.Added[int] = 0, c: "brrr.Added[list[int] | None]" = None) -> int:
    return a + b + len(c or ())


def call(function: Any, *args: Any, codec: str = "json", **kwargs: Any) -> Call:
    task = brrr.handler_no_arg(function)
    found = load_codec(codec)
    return found.encode_call("f", *arranging(task, found)(args, kwargs))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1,), {}), ((1, 0), {}), ((1, 0, None), {}), ((), {"a": 1}), ((1,), {"b": 0}), ((1,), {"c": None, "b": 0})],
)
def test_call_with_defaults_is_the_call_of_the_function_without_the_parameters(
    codec: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    assert call(after, *args, codec=codec, **kwargs) == call(before, 1, codec=codec)


def test_payload_and_hash_are_those_of_the_golden_file() -> None:
    async def fib(n: int, salt: str | None, colour: brrr.Added[str] = "red") -> int:
        return n

    golden = json.loads(GOLDEN.read_text())["call_json"][0]
    codec = load_codec("json-object")
    made = codec.encode_call("fib", *arranging(brrr.handler_no_arg(fib), codec)((11, None, "red"), {}))

    assert made.payload == golden["payload"].encode()
    assert made.call_hash == golden["call_hash"]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("given", [1, False, None, [0], ""])
def test_any_other_argument_makes_another_call(codec: str, given: Any) -> None:
    assert call(after, 1, given, codec=codec) != call(before, 1, codec=codec)


def test_argument_is_left_out_if_it_has_the_bytes_of_the_default() -> None:
    assert call(after, 1, 0.0) == call(before, 1)
    assert call(after, 1, 0.0, codec="msgpack") != call(before, 1, codec="msgpack")


def test_default_between_other_arguments_is_left_out() -> None:
    assert call(after, 1, 0, [2]) == call(after, 1, c=[2]) == call(after, a=1, b=0, c=[2])
    assert call(after, 1, 0, [2]).payload == b'{"args":[1],"kwargs":{"c":[2]}}'
    assert call(after, 1, 3, [2]).payload == b"[1,3,[2]]"


def test_keyword_only_parameter_is_left_out() -> None:
    async def keyword_only(*rest: int, limit: brrr.Added[tuple[int, ...]] = (1, 2)) -> int:
        return len(rest)

    assert call(keyword_only, 1, 2, limit=[1, 2]).payload == b"[1,2]"
    assert call(keyword_only, 1, limit=()).payload == b'{"args":[1],"kwargs":{"limit":[]}}'


def test_default_that_a_handler_changed_is_not_left_out() -> None:
    default: list[int] = []

    async def mutable(a: int, b: brrr.Added[list[int]] = default) -> int:
        return a

    found = load_codec("json")
    arrange = arranging(brrr.handler_no_arg(mutable), found)
    default.append(1)

    assert arrange((1, default), {}) == ((1, [1]), {})
    assert arrange((1, []), {}) == ((1,), {})


async def test_handler_gets_plain_default_or_the_argument() -> None:
    seen: list[Any] = []

    @brrr.handler_no_arg
    async def child(a: int, b: brrr.Added[int] = 0, *, c: brrr.Added[str | None] = None) -> int:
        seen.append((a, b, c))
        return a

    @brrr.handler
    async def parent(app: brrr.ActiveWorker) -> list[int]:
        return list(await app.gather(app.call(child)(1, 0), app.call(child)(2, c="x"), app.call("child")(3, b=4)))

    await brrr.LocalBrrr(handlers={"child": child, "parent": parent}).run(parent)()

    assert sorted(seen) == [(1, 0, None), (2, 0, "x"), (3, 4, None)]


async def no_default(a: brrr.Added[int]) -> None: ...
async def any_number(*a: brrr.Added[int]) -> None: ...
async def any_name(**a: brrr.Added[int]) -> None: ...
async def by_position(a: brrr.Added[int] = 0, /) -> None: ...
async def not_last(a: brrr.Added[int] = 0, b: int = 0) -> None: ...
async def before_others(a: brrr.Added[int] = 0, *b: int) -> None: ...
async def inside(a: brrr.Added[int] | None = None) -> None: ...
async def unresolved(a: "brrr.Added[Nothing]" = None) -> None: ...  # type: ignore[name-defined] # noqa: F821
async def not_encodable(a: brrr.Added[Any] = object()) -> None: ...  # noqa: B008 - it is the point


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (no_default, "'a' has no default"),
        (any_number, "not one parameter"),
        (any_name, "not one parameter"),
        (by_position, "not one parameter"),
        (not_last, "'b' follows it by position"),
        (before_others, "'b' follows it by position"),
        (inside, "around the whole annotation of 'a'"),
        (unresolved, "'a', 'brrr.Added.Nothing.', does not resolve"),
        (not_encodable, "parameter 'a' .* cannot be encoded"),
    ],
)
async def test_application_refuses_parameter_that_cannot_be_added(function: Any, reason: str) -> None:
    async with brrr.connect("memory:") as connection:
        with pytest.raises(HandlerError, match=reason):
            brrr.AppWorker(handlers={"f": brrr.handler_no_arg(function)}, codec="json", connection=connection)


def test_parameter_with_another_unresolved_annotation_is_not_added() -> None:
    async def other(a: int, b: "Nothing" = 0) -> None:  # type: ignore[name-defined] # noqa: F821
        ...

    assert call(other, 1, 0).payload == b"[1,0]"


def test_added_stands_beside_other_metadata() -> None:
    async def annotated(a: int, b: Annotated[brrr.Added[int], "metres"] = 0) -> None: ...

    assert call(annotated, 1, 0).payload == b"[1]"
