"""Binding of arguments to parameters: every kind of parameter, every misfit, and every shape of a task."""

import functools
import gc
import inspect
import subprocess
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from brrr_core.codec import Codec
from brrr_core.codec.json import JsonObjectCodec
from brrr_core.errors import DecodeError, HandlerError
from brrr_core.wire import Call


@dataclass
class Point:
    x: int


async def run(codec: Codec, task: Callable[..., Any], *args: object, **kwargs: object) -> Any:
    call = codec.encode_call("task", args, kwargs)
    return codec.decode_return("task", await codec.invoke_task(call, task))


async def plain(a, b=2):  # type: ignore[no-untyped-def]
    return [a, b]


async def typed(point: Point, tags: frozenset[str] = frozenset()) -> Any:
    assert type(point) is Point
    assert type(tags) is frozenset
    return [point.x, sorted(tags)]


async def positional_only(a: int, b: int = 2, /) -> Any:
    return [a, b]


async def keyword_only(*, a: int, b: int = 2) -> Any:
    return [a, b]


async def variadic(a: int, *rest: Point) -> Any:
    return [a, [point.x for point in rest]]


async def extra(a: int = 0, **rest: Point) -> Any:
    return [a, {name: point.x for name, point in rest.items()}]


async def everything(a: int, /, b: int, *args: int, c: int, d: int = 4, **kwargs: int) -> Any:
    return [a, b, list(args), c, d, kwargs]


async def nothing() -> Any:
    return []


async def shadowed(a: int, /, **kwargs: int) -> Any:
    return [a, kwargs]


async def optional(n: int = None) -> Any:  # type: ignore[assignment] # noqa: RUF013 - old programs do this
    return n


FITTING: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]] = [
    (plain, (1,), {}, [1, 2]),
    (plain, ("x", [None]), {}, ["x", [None]]),
    (plain, (), {"a": 1}, [1, 2]),
    (plain, (1,), {"b": 3}, [1, 3]),
    (plain, (), {"b": 3, "a": 1}, [1, 3]),
    (typed, ({"x": 1},), {}, [1, []]),
    (typed, ({"x": 1}, ["b", "a"]), {}, [1, ["a", "b"]]),
    (typed, (), {"tags": ["b"], "point": Point(1)}, [1, ["b"]]),
    (positional_only, (1,), {}, [1, 2]),
    (positional_only, (1, 3), {}, [1, 3]),
    (keyword_only, (), {"a": 1}, [1, 2]),
    (keyword_only, (), {"b": 3, "a": 1}, [1, 3]),
    (variadic, (1,), {}, [1, []]),
    (variadic, (1, Point(2), Point(3)), {}, [1, [2, 3]]),
    (extra, (), {}, [0, {}]),
    (extra, (1,), {"x": Point(2)}, [1, {"x": 2}]),
    (extra, (), {"x": Point(2), "a": 1}, [1, {"x": 2}]),
    (everything, (1, 2), {"c": 3}, [1, 2, [], 3, 4, {}]),
    (everything, (1, 2, 9, 8), {"c": 3, "d": 5, "e": 6}, [1, 2, [9, 8], 3, 5, {"e": 6}]),
    (everything, (1,), {"b": 2, "c": 3, "a": 7}, [1, 2, [], 3, 4, {"a": 7}]),
    (shadowed, (1,), {"a": 2}, [1, {"a": 2}]),
    (nothing, (), {}, []),
    (optional, (None,), {}, None),
    (optional, (), {"n": 3}, 3),
]


@pytest.mark.parametrize(("task", "args", "kwargs", "result"), FITTING)
async def test_fitting_arguments_are_bound(codec: Codec, task: Any, args: Any, kwargs: Any, result: Any) -> None:
    assert await run(codec, task, *args, **kwargs) == result


@pytest.mark.parametrize(("task", "args", "kwargs", "result"), [case for case in FITTING if not case[1]])
async def test_json_object_binds_fitting_keyword_arguments(task: Any, args: Any, kwargs: Any, result: Any) -> None:
    assert await run(JsonObjectCodec(), task, **kwargs) == result


WRONG: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], str]] = [
    (plain, (), {}, "has no argument for parameter 'a'"),
    (plain, (), {"b": 1}, "has no argument for parameter 'a'"),
    (
        plain,
        (1, 2, "x", [3]),
        {},
        "takes at most 2 positional arguments, but a call passes 4, the surplus of type str, list",
    ),
    (plain, (1,), {"a": 2}, "passes parameter 'a' by position and by name"),
    (plain, (1,), {"c": "x"}, "accepts no argument named 'c', but a call passes one of type str"),
    (typed, ("x",), {}, "passes a value of type str to parameter 'point': Expected `object`, got `str`"),
    (typed, ({"x": "1"},), {}, "passes a value of type dict to parameter 'point': Expected `int`, got `str`"),
    (typed, ({"x": 1},), {"tags": 5}, "passes a value of type int to parameter 'tags': Expected `array`, got `int`"),
    (positional_only, (), {"a": 1}, "accepts no argument named 'a', but a call passes one of type int"),
    (keyword_only, (1,), {}, "takes at most 0 positional arguments, but a call passes 1, the surplus of type int"),
    (keyword_only, (), {"b": 1}, "has no argument for parameter 'a'"),
    (keyword_only, (), {}, "has no argument for parameter 'a'"),
    (variadic, (1, Point(2), "x"), {}, "passes a value of type str to parameter 'rest'"),
    (extra, (), {"x": "y"}, "passes a value of type str to parameter 'rest'"),
    (everything, (1, 2), {}, "has no argument for parameter 'c'"),
    (everything, (1,), {"c": 3}, "has no argument for parameter 'b'"),
    (shadowed, (), {"a": 2}, "has no argument for parameter 'a'"),
    (nothing, (1,), {}, "takes at most 0 positional arguments"),
]


@pytest.mark.parametrize(("task", "args", "kwargs", "message"), WRONG)
async def test_arguments_that_do_not_fit_raise_decode_error(
    codec: Codec, task: Any, args: Any, kwargs: Any, message: str
) -> None:
    call = codec.encode_call("the-task", args, kwargs)

    with pytest.raises(DecodeError) as caught:
        await codec.invoke_task(call, task)

    assert message in caught.value.what
    assert "task 'the-task'" in caught.value.what
    assert caught.value.remedy


async def test_json_object_payload_is_one_object_or_empty() -> None:
    codec = JsonObjectCodec()

    assert await codec.invoke_task(Call("task", b"[]", "h"), extra) == b"[0,{}]"
    with pytest.raises(DecodeError, match=r"task 'task'.*json-object codec: expected one object, got 2"):
        await codec.invoke_task(Call("task", b"[{},{}]", "h"), extra)
    with pytest.raises(DecodeError, match=r"task 'task'.*json-object codec"):
        await codec.invoke_task(Call("task", b"[1]", "h"), extra)


# Tasks as the application layer passes them.


async def with_app(app: "NoSuchName", n: "int", salt=None):  # type: ignore[name-defined, no-untyped-def] # noqa: F821
    return [app, n, salt]


def bind_app(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Wrap a handler as the application does: with the signature that callers see."""

    @functools.wraps(function)
    async def task(*args: Any, **kwargs: Any) -> Any:
        return await function("app", *args, **kwargs)

    signature = inspect.signature(function)
    _first, *rest = signature.parameters.values()
    task.__signature__ = signature.replace(parameters=rest)  # type: ignore[attr-defined]
    return task


class CallableTask:
    __hash__ = None  # type: ignore[assignment] # cannot be a key

    async def __call__(self, n: "int") -> Any:
        return n

    async def method(self, n: "int") -> Any:
        return n


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def task(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return task


@pytest.mark.parametrize(
    ("task", "result"),
    [
        (functools.partial(with_app, "app"), ["app", 1, None]),
        (functools.partial(functools.partial(with_app, "app"), salt="s"), ["app", 1, "s"]),
        (bind_app(with_app), ["app", 1, None]),
        (wrapped(bind_app(with_app)), ["app", 1, None]),
        (CallableTask(), 1),
        (CallableTask().method, 1),
        (wrapped(CallableTask().method), 1),
    ],
    ids=["partial", "nested-partial", "signature", "wrapped", "callable", "method", "wrapped-method"],
)
async def test_arguments_are_typed_for_every_shape_of_task(codec: Codec, task: Any, result: Any) -> None:
    assert await run(codec, task, 1) == result
    with pytest.raises(DecodeError, match="a value of type str to parameter 'n': Expected `int`, got `str`"):
        await run(codec, task, "1")


async def test_names_in_annotation_resolve_in_module_of_handler(codec: Codec) -> None:
    async def total(points: "list[Point]", other: list["Point"]) -> int:
        return sum(point.x for point in (*points, *other))

    assert await run(codec, total, [Point(1)], [Point(2)]) == 3


async def test_wrapper_from_another_module_does_not_change_resolution_of_names(codec: Codec) -> None:
    async def abscissa(point: "Point") -> int:
        return point.x

    elsewhere: dict[str, Any] = {"functools": functools}
    exec(
        "def wrap(function):\n"
        "    @functools.wraps(function)\n"
        "    async def task(*args, **kwargs): return await function(*args, **kwargs)\n"
        "    return task",
        elsewhere,
    )

    assert await run(codec, elsewhere["wrap"](abscissa), Point(1)) == 1


async def test_signature_is_read_once_per_task(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    signature = inspect.signature
    monkeypatch.setattr(inspect, "signature", lambda task: read.append(task) or signature(task))
    task = bind_app(with_app)

    read.clear()
    for _ in range(3):
        await run(codec, task, 1)
        await run(codec, functools.partial(with_app, "app"), 1)  # a new partial for each call

    assert len(read) == 2


async def test_partials_of_one_function_have_their_own_signatures(codec: Codec) -> None:
    assert await run(codec, functools.partial(plain, "x")) == ["x", 2]
    assert await run(codec, functools.partial(plain, "x", "y")) == ["x", "y"]
    assert await run(codec, functools.partial(plain, a="z")) == ["z", 2]
    for task in (plain, functools.partial(plain, b="z")):
        with pytest.raises(DecodeError, match="has no argument for parameter 'a'"):
            await run(codec, task)


async def test_signature_of_deleted_task_is_forgotten(codec: Codec) -> None:
    task = wrapped(plain)
    gone = weakref.ref(task)
    await run(codec, task, 1)

    del task
    gc.collect()

    assert gone() is None
    assert len(codec._signatures._known) == 0  # type: ignore[attr-defined]


async def test_signature_attribute_of_partial_is_used(codec: Codec) -> None:
    task = functools.partial(plain)
    await run(codec, task, 1)  # known as a partial of `plain`
    task.__signature__ = inspect.signature(typed)  # type: ignore[attr-defined]

    with pytest.raises(DecodeError, match="a value of type int to parameter 'point'"):
        await run(codec, task, 1)


class Custom:
    pass


class Shape(Protocol):
    x: int


class Holder(Protocol):
    def hold(self) -> None: ...


@dataclass
class HasCustom:
    custom: list[Custom]


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ("NoSuchName", "does not resolve .*NoSuchName"),
        ("not a type", "does not resolve"),
        ("list[NoSuchName]", "does not resolve .*NoSuchName"),
        (Custom, "the codec cannot decode to .*Custom"),
        (list[Custom], "the codec cannot decode to .*Custom"),
        (HasCustom, "the codec cannot decode to .*Custom"),
        (Custom | None, "the codec cannot decode to .*Custom"),
        (int | Custom, "union"),
        (complex, "the codec cannot decode to complex"),
        (Shape, "the codec cannot decode to .*Shape"),
        (Holder, "the codec cannot decode to .*Holder"),
    ],
    ids=str,
)
async def test_error_names_annotation_that_cannot_be_used(codec: Codec, annotation: Any, reason: str) -> None:
    async def resize(ok: int, image: Any) -> None:
        raise AssertionError("is not run")

    resize.__annotations__["image"] = annotation
    with pytest.raises(HandlerError, match=f"parameter 'image' of handler .*resize is annotated .*{reason}") as caught:
        await run(codec, resize, 1, 2)
    assert "leave the annotation out" in caught.value.remedy


async def test_abstract_class_with_builtin_instances_is_accepted(codec: Codec) -> None:
    async def total(numbers: Iterable[int], anything: object = None) -> int:
        return sum(numbers)

    assert await run(codec, total, (1, 2)) == 3
    with pytest.raises(DecodeError, match="a value of type int to parameter 'numbers'"):
        await run(codec, total, 1)


async def test_error_names_handler_with_unreadable_signature(codec: Codec) -> None:
    class Unreadable:
        __signature__ = "nonsense"

        async def __call__(self) -> None:
            raise AssertionError("is not run")

    with pytest.raises(HandlerError, match=r"the signature of handler .*__call__ cannot be read"):
        await run(codec, Unreadable())


async def test_exception_of_task_passes_unchanged(codec: Codec) -> None:
    class Defer(BaseException):
        pass

    for error in (TypeError("missing argument"), ValueError(), Defer(), DecodeError("mine")):

        async def task(error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            await codec.invoke_task(codec.encode_call("task", (), {}), functools.partial(task, error))
        assert caught.value is error
        assert error.__cause__ is None


def test_importing_codec_contract_does_not_import_msgspec() -> None:
    program = "import sys, brrr_core.codec; sys.exit('msgspec' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
