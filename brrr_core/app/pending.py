"""The calls of a handler before it awaits them, and the errors for calls that it never awaits."""

import asyncio
from collections.abc import Generator, Iterable, Mapping, Sequence
from inspect import isawaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Protocol, TypeVar, cast

from brrr_core.engine.calls import Wait
from brrr_core.errors import AwaitError

__all__ = ["PendingCall", "Target", "check_awaitables", "check_result"]

T = TypeVar("T")


class CallMaker(Protocol):
    """The active worker, as the calls that it makes see it."""

    async def results(self, calls: "Sequence[PendingCall[Any]]") -> list[Any]:
        """Return the results of calls that this worker made."""
        ...

    def dropped(self, task_name: str) -> None:
        """Note a call that was deleted and never awaited."""
        ...


class Target(NamedTuple):
    """The worker, task, topic, result type and delay that all calls of one task to one topic share."""

    active: CallMaker
    task_name: str
    topic: str
    returns: Any
    delay: float = 0


class PendingCall(Generic[T]):
    """A call, a sleep or an event of a handler. Await it, alone or in a `gather`, for its result.

    It is small until it is awaited, so that a handler can make many thousands for one `gather`. A call that is never
    awaited does nothing, and brrr warns about it.
    """

    __slots__ = ("_taken", "args", "kwargs", "target", "wait")

    def __init__(
        self, target: Target, args: Sequence[object], kwargs: Mapping[str, object], wait: Wait | None = None
    ) -> None:
        self.target = target
        self.wait = wait
        self.args = args
        self.kwargs = kwargs or None
        self._taken = False

    def __await__(self) -> Generator[Any, None, T]:
        self._taken = True
        results: list[T] = yield from self.target.active.results((self,)).__await__()
        return results[0]

    def taken_by(self, active: CallMaker) -> bool:
        """Whether the handler of this worker made the call. If so, the call counts as awaited from now on."""
        if self.target.active is not active:
            return False
        self._taken = True
        return True

    def __del__(self) -> None:
        if not self._taken:
            self.target.active.dropped(self.target.task_name)

    def __repr__(self) -> str:
        return f"<brrr PendingCall of task {self.target.task_name!r}>"

    if not TYPE_CHECKING:  # type checkers know its attributes

        def __getattr__(self, name: str) -> Any:
            what = self if name not in self.__slots__ else "a PendingCall that was not made by `app.call`"
            raise AttributeError(f"{what} has no attribute {name!r}: did you forget `await`?")


_UNAWAITED: Final = frozenset({PendingCall, CoroutineType, asyncio.Future, asyncio.Task})


def check_result(result: object) -> None:
    """Refuse a result that is a call or another awaitable, or that has one among its items.

    Raises:
        AwaitError: The result contains an awaitable.
    """
    kind = type(result)
    items: Iterable[object] = (result,)
    if kind is list or kind is tuple:
        items = cast("Iterable[object]", result)
    elif kind is dict:
        items = cast("dict[object, object]", result).values()
    elif kind not in _UNAWAITED:
        return
    if _UNAWAITED.isdisjoint(map(type, items)):  # no Python loop, because results can be long
        return
    found = next(item for item in items if type(item) in _UNAWAITED)
    for item in items:
        if isinstance(item, PendingCall):
            item.taken_by(item.target.active)  # this error reports it
        elif isinstance(item, CoroutineType):
            item.close()
    container = "" if found is result else f" a {kind.__name__} with"
    raise AwaitError(
        f"the handler returned{container} {found!r} without awaiting it",
        remedy="Did you forget `await`? Return `await app.call(...)(...)`, or `await app.gather(...)` for several.",
    )


def check_awaitables(method: str, awaitables: Sequence[object]) -> None:
    """Refuse arguments of `gather` or `wait` that cannot be awaited.

    Raises:
        AwaitError: An argument is not awaitable.
    """
    for place, item in enumerate(awaitables, 1):
        if not isawaitable(item):
            raise AwaitError(
                f"argument {place} of `{method}` is a {type(item).__name__}, which cannot be awaited",
                remedy="Pass calls, `app.call(task)(arguments)`. Unpack a list of calls: `app.gather(*calls)`.",
            )
