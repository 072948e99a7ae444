"""The active worker: a running handler makes its calls and awaits their results through it."""

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, overload

from brrr_core.app.catalogue import Catalogue
from brrr_core.app.gathering import Exit, gather_any, outcome_of, without_exit
from brrr_core.app.pending import PendingCall, Target, check_awaitables
from brrr_core.app.results import results_of
from brrr_core.app.tasks import Task, TypedTask
from brrr_core.backend.checks import check_topic
from brrr_core.durations import DurationLike, seconds
from brrr_core.engine.calls import EVENT, SLEEP, Child, Wait
from brrr_core.engine.lifespan import Lifespan
from brrr_core.engine.run import Run
from brrr_core.errors import ArgumentError, NotInTaskError

__all__ = ["ActiveWorker"]

P = ParamSpec("P")
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    StateT_co = TypeVarWithDefault("StateT_co", covariant=True, default=Any)
else:
    StateT_co = TypeVar("StateT_co", covariant=True)


class ActiveWorker(Generic[StateT_co]):
    """The object with which a handler calls other tasks. Each run of a handler gets its own.

    `ActiveWorker[Clients]` tells type checkers that the lifespan of the application yields a `Clients`.

    Attributes:
        topic: The topic of this run, and the default topic of its calls.
        attempt: The number of this attempt: 1 plus the failed attempts of this message.
        task_name: The name of the task.
        call_hash: The identity of the call: the same in every run, so it can be an idempotency key.
        root_id: The schedule that this run belongs to, for logs.
        version: The version of the handler with which the call began, for code that continues older calls too:
            `if app.version >= 2`. It stays the same in every run. 0 if the handler has no version.
    """

    __slots__ = (
        "_callers",
        "_catalogue",
        "_dropped",
        "_lifespan",
        "_loop",
        "_returned",
        "_run",
        "attempt",
        "call_hash",
        "root_id",
        "task_name",
        "topic",
        "version",
    )

    def __init__(self, run: Run, catalogue: Catalogue, lifespan: Lifespan) -> None:
        self._run = run
        self._lifespan = lifespan
        self._catalogue = catalogue
        self._callers: dict[tuple[Task | str, str | None], Callable[..., PendingCall[Any]]] = {}
        self._loop = asyncio.get_running_loop()
        self._dropped: dict[str, None] = {}  # ordered, each name once
        self._returned: bool | None = None
        self.topic = run.topic
        self.attempt = run.attempt
        self.task_name = run.call.task_name
        self.call_hash = run.call.call_hash
        self.root_id = run.root_id
        self.version = run.version

    @property
    def state(self) -> StateT_co:
        """The object that the lifespan of the application yielded: pools and clients that all calls share.

        Raises:
            LifespanError: The application has no lifespan.
        """
        state: StateT_co = self._lifespan.state
        return state

    def __call__(self) -> Self:
        """Return the worker itself: programs for other SDKs write `app().gather`."""
        return self

    @overload
    def call(
        self,
        task: TypedTask[Callable[P, T]],
        *,
        topic: str | None = None,
        delay: DurationLike = 0,
        deadline: DurationLike | None = None,
        key: str | None = None,
    ) -> Callable[P, PendingCall[T]]: ...
    @overload
    def call(
        self,
        task: str,
        *,
        topic: str | None = None,
        delay: DurationLike = 0,
        deadline: DurationLike | None = None,
        key: str | None = None,
    ) -> Callable[..., PendingCall[Any]]: ...
    @overload
    def call(
        self,
        task: str,
        *,
        topic: str | None = None,
        returns: type[T],
        delay: DurationLike = 0,
        deadline: DurationLike | None = None,
        key: str | None = None,
    ) -> Callable[..., PendingCall[T]]: ...
    @overload  # a union is not a `type`
    def call(
        self,
        task: str,
        *,
        topic: str | None = None,
        returns: object,
        delay: DurationLike = 0,
        deadline: DurationLike | None = None,
        key: str | None = None,
    ) -> Callable[..., PendingCall[Any]]: ...
    def call(
        self,
        task: Task | str,
        *,
        topic: str | None = None,
        returns: Any = Any,
        delay: DurationLike = 0,
        deadline: DurationLike | None = None,
        key: str | None = None,
    ) -> Callable[..., PendingCall[Any]]:
        """Call a task durably: `await app.call(fib)(11)`.

        If the call has no value yet, the handler is aborted here. When the value exists, the handler runs again from
        its start.

        Args:
            task: A handler, or the name of a task of any worker in any language.
            topic: The topic of its message; the topic of this run by default.
            returns: The type of the result, if the task is called by its name.
            delay: The time before the call may run, if this handler is the first to make it: seconds, a `timedelta`, or
                a text such as `"1h"`.
            deadline: The longest time to wait for the result. After that, `await` raises `DeadlineExceededError` in
                this handler. The call itself continues, for other callers.
            key: Identity of the deadline within this call. Concurrent helpers need one; the default is
                the position among the waits of the handler.

        Raises:
            UnknownTaskError: The handler is not among this worker's handlers.
            ArgumentError: The topic is empty or not a string, a time is not a duration, or a key is missing.
            CapabilityError: The queue cannot delay, and a time is longer than a lease.
            SignatureError: Raised by the call: the arguments do not match the parameters.
            EncodeError: Raised by `await`: an argument cannot be encoded.
        """
        if returns is not Any or delay or deadline is not None or key is not None:
            limit = None if deadline is None else seconds(deadline, "deadline")
            return self._caller(task, topic, returns, delay=seconds(delay), deadline=limit, key=key)
        known = self._callers.get((task, topic))
        if known is None:
            known = self._callers[task, topic] = self._caller(task, topic, returns)
        return known

    def sleep(self, duration: DurationLike, *, key: str | None = None) -> PendingCall[None]:
        """Sleep durably: `await app.sleep("1h")`. The sleep is not held in memory, so it can last for weeks.

        Args:
            duration: Seconds, a `timedelta`, or a text such as `"1h"`.
            key: See `call`.

        Raises:
            ArgumentError: It is not a duration, or a key is missing.
            CapabilityError: The queue cannot delay, and the time is longer than a lease.
        """
        return self._sleep(self._run.waits.now + seconds(duration, "duration"), key)

    def sleep_until(self, when: datetime | float, *, key: str | None = None) -> PendingCall[None]:
        """Sleep until a point in time. If it is in the past, continue immediately.

        Args:
            when: A `datetime` with a time zone, or unix seconds. It must be the same in every run of the handler.
            key: See `call`.

        Raises:
            ArgumentError: The `datetime` has no time zone, or a key is missing.
            CapabilityError: The queue cannot delay, and the time is longer than a lease.
        """
        if isinstance(when, datetime):
            if when.tzinfo is None:
                raise ArgumentError(
                    f"`sleep_until` got {when}, which has no time zone", remedy="Pass datetime(..., tzinfo=UTC)."
                )
            when = when.timestamp()
        return self._sleep(when, key)

    @overload
    def event(
        self, name: str, *args: object, deadline: DurationLike | None = None, key: str | None = None
    ) -> PendingCall[Any]: ...
    @overload
    def event(
        self, name: str, *args: object, returns: type[T], deadline: DurationLike | None = None, key: str | None = None
    ) -> PendingCall[T]: ...
    @overload  # a union is not a `type`
    def event(
        self, name: str, *args: object, returns: object, deadline: DurationLike | None = None, key: str | None = None
    ) -> PendingCall[Any]: ...
    def event(
        self,
        name: str,
        *args: object,
        returns: Any = Any,
        deadline: DurationLike | None = None,
        key: str | None = None,
    ) -> PendingCall[Any]:
        """Wait for an event from outside: `await app.event("approval", order_id, deadline="72h")`.

        A client gives the event its value with `client.event("approval", order_id).complete(value)`, before or after a
        handler waits. Equal names and arguments are one event, which happens once.

        Args:
            name: The name of the event.
            args: Arguments that identify it, for example an order.
            returns: The type of its value.
            deadline: See `call`.
            key: See `call`.

        Raises:
            ArgumentError: The deadline is not a duration, or a key is missing.
            CapabilityError: The queue cannot delay, and the deadline is longer than a lease.
            WaitTooLongError: The store has a `ttl`, and the deadline is missing or longer than half of it.
            EncodeError: Raised by `await`: an argument cannot be encoded.
            DeadlineExceededError: Raised by `await`: the event did not happen in time.
            CallFailedError: Raised by `await`: a client let the event fail.
        """
        limit = None if deadline is None else seconds(deadline, "deadline")
        if limit is None:
            self._run.waits.check_endless(name)
        topic = self.topic if name in self._catalogue.simulated else ""
        target = Target(self, EVENT + name, topic, returns)
        return PendingCall(target, *self._catalogue.event_arguments(args), self._deadline(limit, key))

    @overload
    def send(
        self, task: TypedTask[Callable[P, Any]], *, topic: str | None = None, delay: DurationLike = 0
    ) -> Callable[P, Coroutine[Any, Any, None]]: ...
    @overload
    def send(
        self, task: str, *, topic: str | None = None, delay: DurationLike = 0
    ) -> Callable[..., Coroutine[Any, Any, None]]: ...
    def send(
        self, task: Task | str, *, topic: str | None = None, delay: DurationLike = 0
    ) -> Callable[..., Coroutine[Any, Any, None]]:
        """Schedule a call without waiting for its result: `await app.send(email)(customer)`.

        When `await` returns, the message is on its queue. A later run of this handler does not put it again. It belongs
        to the schedule of this run. It has no caller: if it fails, no handler notices.

        Args:
            task: A handler, or the name of a task of any worker in any language.
            topic: The topic of its message; the topic of this run by default.
            delay: The time before the call may run.

        Raises:
            UnknownTaskError: The handler is not among this worker's handlers.
            ArgumentError: The topic is empty or not a string, or the delay is not a duration.
            CapabilityError: The queue cannot delay, and the delay is longer than a lease.
            SignatureError: Raised by the call: the arguments do not match the parameters.
            EncodeError: Raised by `await`: an argument cannot be encoded.
            SpawnLimitError: Raised by `await`: the schedule is over its spawn limit.
        """
        if topic is not None:
            check_topic(topic)
        wait = seconds(delay)
        self._run.waits.check(wait)
        name, arrange, _ = self._catalogue.resolve(task)

        def send(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, None]:
            return self._send(name, topic or self.topic, wait, *arrange(args, kwargs))

        return send

    async def _send(
        self, name: str, topic: str, delay: float, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> None:
        await self._run.send(Child(self._catalogue.codec.encode_call(name, args, kwargs), topic, delay))

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
    @overload
    async def gather(self, *awaitables: Awaitable[T], return_exceptions: bool) -> tuple[T | BaseException, ...]: ...
    async def gather(self, *awaitables: Awaitable[Any], return_exceptions: bool = False) -> Any:
        """Return a list of the results of several calls, in order.

        All calls without a value are put on their queues together. Type checkers see a tuple, so that each result has
        its own type.

        If calls fail, the first failure in the order of the arguments is raised when all calls have outcomes. The
        arguments may include other awaitables, for example helpers that make calls. They run concurrently, and all of
        them run to their end. Then the first error, if any, is raised.

        Args:
            awaitables: Calls, and other awaitables.
            return_exceptions: Return errors in place of results, and raise none.

        Raises:
            CallFailedError: A call failed for good.
            DeadlineExceededError: A call had no outcome in time.
            AwaitError: An argument is not awaitable, for example a list of calls.
        """
        calls = [call for call in awaitables if isinstance(call, PendingCall) and call.taken_by(self)]
        if len(calls) == len(awaitables):
            return await self.results(calls, return_exceptions=return_exceptions)
        check_awaitables("gather", awaitables)
        return await gather_any(awaitables, return_exceptions=return_exceptions)

    def wait(self, awaitable: Awaitable[T]) -> T:
        """Return the result of a call or a `gather` in a sync handler: `app.wait(app.call(fib)(11))`.

        Raises:
            NotInTaskError: It was called on the event loop. Use `await` there.
            AwaitError: The argument is not awaitable.
        """
        check_awaitables("wait", [awaitable])
        if _on_loop(self._loop):
            if isinstance(awaitable, PendingCall):
                awaitable.taken_by(self)  # so that this error alone reports the call
            raise NotInTaskError("`wait` was called on the event loop", remedy="Write `await` in an async handler.")
        return outcome_of(asyncio.run_coroutine_threadsafe(self._awaited(awaitable), self._loop).result())

    async def run_handler(self, function: Callable[[], T]) -> T:
        """Run a sync handler in a thread for handlers. Run a blocking helper with `asyncio.to_thread` instead.

        Otherwise handlers that wait for helpers could occupy all threads.
        """
        self._run.interruptible = False
        return await self._catalogue.in_thread(function)

    @overload
    def cancel(
        self, task: TypedTask[Callable[P, Any]], *, topic: str | None = None
    ) -> Callable[P, Coroutine[Any, Any, None]]: ...
    @overload
    def cancel(self, task: str, *, topic: str | None = None) -> Callable[..., Coroutine[Any, Any, None]]: ...
    def cancel(self, task: Task | str, *, topic: str | None = None) -> Callable[..., Coroutine[Any, Any, None]]:
        """Ask for the cancellation of another call: `await app.cancel(slow)(1)`. It does not wait for the outcome.

        See `AppConsumer.cancel`. If the call has an outcome, nothing happens.

        Args:
            task: A handler, or the name of a task.
            topic: The topic of the call; the topic of this run by default.

        Raises:
            UnknownTaskError: The handler is not among this worker's handlers.
            ArgumentError: The topic is empty or not a string.
            SignatureError: Raised by the call: the arguments do not match the parameters.
        """
        wanted = self.topic if topic is None else topic
        check_topic(wanted)

        async def cancelled(*args: Any, **kwargs: Any) -> None:
            call = self._catalogue.encode(task, args, kwargs)
            await self._run.request(self._catalogue.connection.cancel(call, wanted, root_id=self.root_id))

        return cancelled

    def _caller(
        self,
        task: Task | str,
        topic: str | None,
        returns: Any,
        *,
        delay: float = 0,
        deadline: float | None = None,
        key: str | None = None,
    ) -> Callable[..., PendingCall[Any]]:
        if topic is not None:
            check_topic(topic)
        if delay:
            self._run.waits.check(delay)
        name, arrange, returns = self._catalogue.resolve(task, returns)
        target = Target(self, name, self.topic if topic is None else topic, returns, delay)

        def pending(*args: Any, **kwargs: Any) -> PendingCall[Any]:
            return PendingCall(target, *arrange(args, kwargs))

        def limited(*args: Any, **kwargs: Any) -> PendingCall[Any]:
            return PendingCall(target, *arrange(args, kwargs), self._deadline(deadline, key))

        return pending if deadline is None else limited

    def _deadline(self, limit: float | None, key: str | None) -> Wait | None:
        return None if limit is None else self._run.wait(self._run.waits.now + limit, key)

    def _sleep(self, due: float, key: str | None) -> PendingCall[None]:
        return PendingCall(Target(self, SLEEP, "", None), (), {}, self._run.wait(due, key))

    async def results(self, calls: Sequence[PendingCall[Any]], *, return_exceptions: bool = False) -> list[Any]:
        """Return the results of calls, in order."""
        return await results_of(self._run, self._catalogue, calls, return_exceptions=return_exceptions)

    @contextmanager
    def no_parking(self) -> Generator[None, None, None]:
        """Do not keep the handler suspended at calls within this block: `with app.no_parking():`.

        Use it around calls during which the handler must not hold a lock, a connection or another resource. The
        handler is aborted at a call without a value, as it is after a crash, and runs again from its start.
        """
        self._run.unparked += 1
        try:
            yield
        finally:
            self._run.unparked -= 1

    def dropped(self, task_name: str) -> None:
        """Note a call that was deleted and never awaited.

        It is reported only if the run returns: an aborted or failed run may have ended before its `await`.
        """
        if self._returned is None:
            self._dropped[task_name] = None
        elif self._returned:  # it was part of a reference cycle, or outlived the run
            warnings.warn(f"PendingCall of task {task_name!r} was never awaited", RuntimeWarning, stacklevel=2)

    def end(self, *, returned: bool) -> list[str]:
        """End the run. Return the task names of calls that were never awaited, if the handler returned."""
        self._returned = returned
        self._callers.clear()  # they refer to this worker
        return list(self._dropped) if returned else []

    async def _awaited(self, awaitable: Awaitable[T]) -> T | Exit:
        self._run.adopt()
        try:
            return await without_exit(awaitable)
        finally:
            self._run.disown()


def _on_loop(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
