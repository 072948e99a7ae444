"""What a handler's code touches while it runs: the active worker, and the calls that it makes."""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, ParamSpec, Self, TypeVar, overload

from brrr_core.app.handlers import Task, TypedTask
from brrr_core.backend.checks import check_topic
from brrr_core.codec.contracts import Codec
from brrr_core.engine.batching import BATCH_LIMIT
from brrr_core.engine.calls import Child, Defer
from brrr_core.engine.run import Run
from brrr_core.errors import NotInTaskError

if TYPE_CHECKING:
    from brrr_core.app.consumer import Catalogue

__all__ = ["ActiveWorker", "PendingCall"]

P = ParamSpec("P")
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")


class _Target(NamedTuple):
    """What all calls of one task to one topic share."""

    active: "ActiveWorker"
    task_name: str
    topic: str
    returns: Any


class PendingCall(Generic[T]):
    """A call that a handler makes. Await it, alone or in a `gather`, for its result.

    It is small until it is awaited, so that a handler may make many thousands for one `gather`.
    """

    __slots__ = ("_args", "_kwargs", "_target")

    def __init__(self, target: _Target, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        self._target = target
        self._args = args
        self._kwargs = kwargs or None

    def __await__(self) -> Generator[Any, None, T]:
        results: list[T] = yield from self._target.active.results((self,)).__await__()
        return results[0]

    def child(self, codec: Codec) -> Child:
        """The encoded call, and where it goes."""
        call = codec.encode_call(self._target.task_name, self._args, self._kwargs or {})
        return Child(call, self._target.topic)

    def decode(self, catalogue: "Catalogue", value: bytes) -> T:
        """The result of the call, from its value.

        Raises:
            ResultDecodeError: The value is not of the result's type.
        """
        result: T = catalogue.decode(self._target.task_name, value, self._target.returns)
        return result

    def belongs_to(self, active: "ActiveWorker") -> bool:
        """Whether it was made by this worker's handler."""
        return self._target.active is active


class ActiveWorker:
    """A handler's way to call others. Each run of a handler gets one of its own.

    Attributes:
        topic: The topic that this run came from, and that its calls go to where none is named.
        attempt: The number of this attempt, from 1: one more than the handler has raised for this message.
    """

    __slots__ = ("_callers", "_catalogue", "_loop", "_run", "attempt", "topic")

    def __init__(self, run: Run, catalogue: "Catalogue") -> None:
        self._run = run
        self._catalogue = catalogue
        self._callers: dict[tuple[Task | str, str | None], Callable[..., PendingCall[Any]]] = {}
        self._loop = asyncio.get_running_loop()
        self.topic = run.topic
        self.attempt = run.attempt

    def __call__(self) -> Self:
        """The worker itself: programmes of other SDKs write `app().gather`."""
        return self

    @overload
    def call(self, task: TypedTask[P, T], *, topic: str | None = None) -> Callable[P, PendingCall[T]]: ...
    @overload
    def call(self, task: str, *, topic: str | None = None) -> Callable[..., PendingCall[Any]]: ...
    @overload
    def call(self, task: str, *, topic: str | None = None, returns: type[T]) -> Callable[..., PendingCall[T]]: ...
    @overload  # a union is no `type`
    def call(self, task: str, *, topic: str | None = None, returns: object) -> Callable[..., PendingCall[Any]]: ...
    def call(
        self, task: Task | str, *, topic: str | None = None, returns: Any = Any
    ) -> Callable[..., PendingCall[Any]]:
        """Call a task durably: `await app.call(fib)(11)`.

        Where the call has no value yet, the handler is aborted here, and run again from its start once there is one.

        Args:
            task: A handler, or the name of a task of any worker in any language.
            topic: Where its message goes; this run's own topic where none is named.
            returns: The type that the result of a task called by its name is decoded to.

        Raises:
            UnknownTaskError: The handler is not among this worker's handlers.
            ArgumentError: The topic is no text, or empty.
            SignatureError: By the call: the arguments do not fit the handler's parameters.
            EncodeError: By awaiting it: an argument cannot be encoded.
        """
        if returns is not Any:
            return self._caller(task, topic, returns)
        known = self._callers.get((task, topic))
        if known is None:
            known = self._callers[task, topic] = self._caller(task, topic, returns)
        return known

    @overload
    async def gather(self, a: Awaitable[T1], b: Awaitable[T2], /) -> tuple[T1, T2]: ...
    @overload
    async def gather(self, a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], /) -> tuple[T1, T2, T3]: ...
    @overload
    async def gather(
        self, a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], d: Awaitable[T4], /
    ) -> tuple[T1, T2, T3, T4]: ...
    @overload
    async def gather(
        self, a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], d: Awaitable[T4], e: Awaitable[T5], /
    ) -> tuple[T1, T2, T3, T4, T5]: ...
    @overload
    async def gather(self, *awaitables: Awaitable[T]) -> tuple[T, ...]: ...
    async def gather(self, *awaitables: Awaitable[Any]) -> tuple[Any, ...]:
        """The results of several calls, in their order. All that have no value yet are put on their queues at once.

        Other awaitables may stand among them (helpers that make calls of their own); they run side by side to their
        end. Where one raises, the first error is raised once all have ended.
        """
        calls = [call for call in awaitables if isinstance(call, PendingCall) and call.belongs_to(self)]
        if len(calls) == len(awaitables):
            return tuple(await self.results(calls))
        return await self._side_by_side(awaitables)

    def wait(self, awaitable: Awaitable[T]) -> T:
        """The result of a call, or of a `gather`, from a sync handler: `app.wait(app.call(fib)(11))`.

        Raises:
            NotInTaskError: It was called from the event loop, where `await` belongs.
        """
        if _on_loop(self._loop):
            raise NotInTaskError("`wait` was called on the event loop", remedy="Write `await` in an async handler.")
        return asyncio.run_coroutine_threadsafe(self._awaited(awaitable), self._loop).result()

    async def run_handler(self, function: Callable[[], T]) -> T:
        """Run a sync handler in a thread of its own kind: a blocking helper belongs into `asyncio.to_thread`.

        All of the handlers' threads may be taken by handlers that wait for helpers.
        """
        return await self._catalogue.in_thread(function)

    def _caller(self, task: Task | str, topic: str | None, returns: Any) -> Callable[..., PendingCall[Any]]:
        if topic is not None:
            check_topic(topic)
        name, arrange, returns = self._catalogue.resolve(task, returns)
        target = _Target(self, name, self.topic if topic is None else topic, returns)

        def pending(*args: Any, **kwargs: Any) -> PendingCall[Any]:
            return PendingCall(target, *arrange(args, kwargs))

        return pending

    async def results(self, calls: Sequence[PendingCall[Any]]) -> list[Any]:
        """Look the calls up a batch at a time, so that a wide gather is never held encoded as a whole."""
        codec = self._catalogue.codec
        results: list[Any] = []
        missing = False
        for start in range(0, len(calls), BATCH_LIMIT):
            batch = calls[start : start + BATCH_LIMIT]
            values = await self._run.look_up([call.child(codec) for call in batch])
            missing = missing or None in values
            if not missing:
                results.extend(
                    call.decode(self._catalogue, value)
                    for call, value in zip(batch, values, strict=True)
                    if value is not None
                )
        if missing:
            raise Defer
        return results

    async def _awaited(self, awaitable: Awaitable[T]) -> T:
        self._run.adopt()
        return await awaitable

    async def _side_by_side(self, awaitables: Sequence[Awaitable[Any]]) -> tuple[Any, ...]:
        tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
        await asyncio.gather(*tasks, return_exceptions=True)
        errors = [error for task in tasks if (error := task.exception()) is not None]
        for error in errors:
            if isinstance(error, Defer):
                raise error
        for error in errors:
            raise error
        return tuple(task.result() for task in tasks)


def _on_loop(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
