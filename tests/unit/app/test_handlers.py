"""Functions that the decorators accept, and the errors for those that they refuse."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from unittest.mock import AsyncMock, Mock

import pytest

import brrr_core as brrr
from brrr_core.errors import HandlerError

if TYPE_CHECKING:
    from brrr_core import ActiveWorker


@dataclass
class Point:
    x: int
    y: int


async def scale(factor: int, point: Point) -> Point:
    return Point(factor * point.x, factor * point.y)


async def with_app(app: brrr.ActiveWorker, factor: int, point: Point) -> Point:
    return await app.call("scale", returns=Point)(factor, point)


class Scaler:
    def __init__(self, factor: int) -> None:
        self.factor = factor
        self.returns = self.run = self.name = "an attribute of its own"

    async def scale(self, point: Point) -> Point:
        return Point(self.factor * point.x, self.factor * point.y)

    async def with_app(self, app: brrr.ActiveWorker, point: Point) -> Point:
        return await app.call("scale", returns=Point)(self.factor, point)

    @staticmethod
    async def plain(point: Point) -> Point:
        return await scale(2, point)


class Doubles(Scaler):
    def __init__(self) -> None:
        super().__init__(2)

    async def __call__(self, point: Point) -> Point:
        return await self.scale(point)


class SyncDoubles:
    def __call__(self, point: Point) -> Point:
        assert isinstance(point, Point)
        return Point(2 * point.x, 2 * point.y)


class DoublesWithApp:
    async def __call__(self, app: brrr.ActiveWorker, point: Point) -> Point:
        return await with_app(app, 2, point)


class Traced:
    """A decorator that is a class."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


TAKEN = {
    "partial": (brrr.handler_no_arg(functools.partial(scale, 2)), "scale"),
    "partial by name": (brrr.handler_no_arg(functools.partial(scale, factor=2)), "scale"),
    "partial by name of a handler": (brrr.handler(functools.partial(brrr.handler(with_app), factor=2)), "with_app"),
    "method": (brrr.handler_no_arg(Scaler(2).scale), "scale"),
    "method with app": (brrr.handler(Scaler(2).with_app), "with_app"),
    "partial of a method": (brrr.handler_no_arg(functools.partial(Scaler(2).scale)), "scale"),
    "static method": (brrr.handler_no_arg(Scaler.plain), "plain"),
    "static method in its class": (brrr.handler_no_arg(vars(Scaler)["plain"]), "plain"),
    "object": (brrr.handler_no_arg(Doubles()), "Doubles"),
    "sync object": (brrr.handler_no_arg(SyncDoubles()), "SyncDoubles"),
    "object with app": (brrr.handler(DoublesWithApp()), "DoublesWithApp"),
    "class that decorates": (brrr.handler_no_arg(Traced(Scaler(2).scale)), "scale"),
}


@pytest.mark.parametrize("kind", TAKEN)
async def test_callable_of_every_kind_becomes_handler(kind: str) -> None:
    task, name = TAKEN[kind]
    local = brrr.LocalBrrr(handlers={"task": task, "scale": brrr.handler_no_arg(scale)})
    call = {"point": Point(1, 3)} if "by name" in kind else {}
    assert await local.run("task")(*(() if call else (Point(1, 3),)), **call) == Point(2, 6)
    assert (task.name, task.returns) == (name, Point)


@pytest.mark.parametrize("kind", ["partial", "method", "object", "object with app"])
async def test_async_callable_of_every_kind_runs_on_event_loop(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brrr.ActiveWorker, "run_handler", None)
    task, _ = TAKEN[kind]
    local = brrr.LocalBrrr(handlers={"task": task, "scale": brrr.handler_no_arg(scale)})
    assert await local.run("task")(Point(1, 3)) == Point(2, 6)


async def test_builtin_with_parameters_becomes_handler() -> None:
    assert await brrr.LocalBrrr(handlers={"sqrt": brrr.handler_no_arg(math.sqrt)}).run("sqrt")(9) == 3.0


@pytest.mark.parametrize("mock", [Mock, AsyncMock])
async def test_mock_becomes_handler(mock: Any) -> None:
    fake = mock(return_value=3)
    assert await brrr.LocalBrrr(handlers={"fake": brrr.handler_no_arg(fake)}).run("fake")(1, "a") == 3
    fake.assert_called_once_with(1, "a")


class HasGather(Protocol):
    async def gather(self, *awaitables: Any) -> Any: ...


class HasTopic(Protocol):
    topic: str


class OwnWorker(brrr.ActiveWorker): ...


async def typed_lazily(app: "ActiveWorker", n: int) -> None: ...
async def typed_with_state(app: brrr.ActiveWorker[int], n: int) -> None: ...
async def typed_with_state_lazily(app: "ActiveWorker[int]", n: int) -> None: ...
async def typed_by_unknown_name(app: "Elsewhere", n: int) -> None: ...  # type: ignore[name-defined]  # noqa: F821
async def typed_by_protocol(app: HasGather, n: int) -> None: ...
async def typed_by_attribute(app: HasTopic, n: int) -> None: ...
async def typed_by_subclass(app: OwnWorker, n: int) -> None: ...
async def typed_as_any(app: Any, n: int) -> None: ...
async def typed_as_object(app: object, n: int) -> None: ...
async def typed_as_optional(app: brrr.ActiveWorker | None, n: int) -> None: ...
async def untyped(app, n) -> None: ...  # type: ignore[no-untyped-def]
async def named_self(self: brrr.ActiveWorker, n: int) -> None: ...


WORKERS: list[Any] = [typed_lazily, typed_by_unknown_name, typed_by_protocol, typed_by_subclass, typed_as_any]
WORKERS += [typed_with_state, typed_with_state_lazily]
WORKERS += [typed_by_attribute, typed_as_object, typed_as_optional, untyped, named_self]


@pytest.mark.parametrize("function", WORKERS, ids=lambda function: function.__name__)
def test_first_parameter_that_can_be_worker_is_taken_for_it(function: Any) -> None:
    assert list(brrr.handler(function).signature.parameters) == ["n"]


async def generator() -> Any:
    yield 1


async def number_first(n: int, app: brrr.ActiveWorker) -> None: ...
async def numbers_first(n: list[int]) -> None: ...
async def point_first(point: "Point") -> None: ...
async def no_parameters() -> None: ...
async def keywords(*, app: brrr.ActiveWorker) -> None: ...


class WithMethods:
    async def method(self, app: brrr.ActiveWorker) -> None: ...

    @classmethod
    async def of_class(cls, n: int) -> None: ...


FORGOTTEN = functools.partial(with_app, 1)  # type: ignore[arg-type]

REFUSED: dict[str, tuple[Callable[[Any], Any], Any, str]] = {
    "parentheses": (brrr.handler, None, r"`handler` was called without a function. Write @brrr\.handler, without \(\)"),
    "parentheses too": (brrr.handler_no_arg, None, r"Write @brrr\.handler_no_arg, without"),
    "name": (brrr.handler, "fib", r"str cannot be called .* Decorate a function: @brrr\.handler, without arguments"),
    "handler": (brrr.handler_no_arg, brrr.handler(typed_as_any), "typed_as_any is a handler already"),
    "builtin class": (brrr.handler_no_arg, int, "int is a class .* function that makes the object"),
    "class": (brrr.handler_no_arg, Point, "Point is a class"),
    "builtin without parameters": (brrr.handler_no_arg, dict.pop, "the parameters of pop cannot be read"),
    "generator": (brrr.handler_no_arg, generator, "generator is a generator .* as a list"),
    "method in its class": (brrr.handler, WithMethods.method, "method is a method.*parameter 'self'.*thing.method"),
    "plain method in its class": (brrr.handler_no_arg, WithMethods.method, "method is a method.*parameter 'self'"),
    "class method": (brrr.handler_no_arg, vars(WithMethods)["of_class"], "of_class is a classmethod.*Class.method"),
    "worker for none": (brrr.handler_no_arg, with_app, "'app' of with_app .* with `handler`"),
    "worker for none, lazily": (brrr.handler_no_arg, typed_lazily, "'app' of typed_lazily .* with `handler`"),
    "worker with state for none": (
        brrr.handler_no_arg,
        typed_with_state,
        "'app' of typed_with_state is the active worker",
    ),
    "the same, lazily": (
        brrr.handler_no_arg,
        typed_with_state_lazily,
        "'app' of typed_with_state_lazily is the active worker",
    ),
    "worker second": (brrr.handler_no_arg, number_first, "'app' of number_first .* first parameter"),
    "argument for worker": (brrr.handler, number_first, "first parameter of number_first is `n: int`.*handler_no_arg"),
    "list for worker": (brrr.handler, numbers_first, r"is `n: list\[int\]`"),
    "dataclass for worker": (brrr.handler, point_first, "is `point: 'Point'`"),
    "nothing for worker": (brrr.handler, no_parameters, "is not positional.*`app: brrr.ActiveWorker`"),
    "keyword for worker": (brrr.handler, keywords, "is not positional"),
    "partial that binds the worker": (brrr.handler, FORGOTTEN, "is `factor: int`"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_mistake_is_explained_when_decorator_runs(mistake: str) -> None:
    decorator, function, explained = REFUSED[mistake]
    with pytest.raises(HandlerError, match=explained):
        decorator() if function is None else decorator(function)  # type: ignore[call-arg]
