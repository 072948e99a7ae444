"""Clients of an application: they schedule calls and read results, and run no handlers."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar, overload
from weakref import WeakValueDictionary

from brrr_core.app.catalogue import Catalogue
from brrr_core.app.events import Event
from brrr_core.app.graphs import GraphReader
from brrr_core.app.letters import LetterSelection
from brrr_core.app.tasks import Task, TypedTask
from brrr_core.backend.checks import check_limit, check_topic
from brrr_core.codec import Codec
from brrr_core.durations import DurationLike, seconds
from brrr_core.engine.calls import EVENT
from brrr_core.engine.connection import Connection
from brrr_core.engine.letters import LetterChoice
from brrr_core.engine.starting import Scheduled
from brrr_core.engine.status import CallStatus, read_status
from brrr_core.engine.waiting import DeadLetters, DeadLetterScope, wait_for_value
from brrr_core.errors import NotFoundError
from brrr_core.wire import Call

__all__ = ["AppConsumer"]

P = ParamSpec("P")
T = TypeVar("T")

REMEMBERED: Final = 10_000
"""The most calls whose topic and root id a client remembers."""


class AppConsumer(GraphReader):
    """Schedules calls and reads their results.

    Args:
        codec: A codec or the name of one; the workers must use the same.
        connection: From `brrr.connect` or `brrr.serve`.
        handlers: Handlers by task name. You need them only for tasks whose name is not the function's name.

    Raises:
        HandlerError: A handler was not made by a decorator of brrr.
        PluginError: The codec is not known.
    """

    _closed = False

    def __init__(
        self, *, codec: str | Codec, connection: Connection, handlers: Mapping[str, Task] | None = None
    ) -> None:
        self._catalogue = Catalogue(handlers or {}, codec, connection, closed=self._closed)
        self._connection = connection
        self._scheduled: OrderedDict[str, Scheduled] = OrderedDict()
        self._dead_letters: WeakValueDictionary[str, DeadLetters] = WeakValueDictionary()

    @overload
    def schedule(
        self,
        task: TypedTask[Callable[P, Any]],
        *,
        topic: str,
        delay: DurationLike = 0,
        redrive: bool = False,
        spawn_limit: int | None = None,
    ) -> Callable[P, Coroutine[Any, Any, Scheduled]]: ...
    @overload
    def schedule(
        self, task: str, *, topic: str, delay: DurationLike = 0, redrive: bool = False, spawn_limit: int | None = None
    ) -> Callable[..., Coroutine[Any, Any, Scheduled]]: ...
    def schedule(
        self,
        task: Task | str,
        *,
        topic: str,
        delay: DurationLike = 0,
        redrive: bool = False,
        spawn_limit: int | None = None,
    ) -> Callable[..., Coroutine[Any, Any, Scheduled]]:
        """Schedule a call for the workers of a topic: `await app.schedule(fib, topic="demo")(11)`.

        Scheduling twice is safe. A call that has an outcome is not put again. Nor is one that was put less than
        `Policy(resend_after=...)` ago, by any program: the state of the result is then `scheduled`.

        Args:
            task: A handler, or the name of a task in any language.
            topic: The topic of its workers.
            delay: The time before it may run: seconds, a `timedelta`, or a text such as `"30s"`. A delayed schedule
                does not keep later ones from putting the call.
            redrive: Put the call and every missing child again, because the queue lost messages, or because a topic
                was wrong.
            spawn_limit: The most messages that this schedule may cause, including all calls and wake-ups; the policy's
                limit by default. Workers of every SDK honour it.

        Raises:
            SignatureError: The arguments do not match the handler.
            EncodeError: An argument cannot be encoded.
            UnknownTaskError: The handler is not among the application's handlers.
            ArgumentError: The topic is empty, the delay is not a duration, or the spawn limit is less than 1.
            BackendError: A backend failed; scheduling again is safe.
        """
        self._catalogue.resolve(task)  # an unknown handler is an error here, and not at the call

        async def scheduled(*args: Any, **kwargs: Any) -> Scheduled:
            call = self._catalogue.encode(task, args, kwargs)
            done = await self._connection.schedule(
                call, topic, delay=seconds(delay), redrive=redrive, spawn_limit=spawn_limit
            )
            self._remember(done)
            return done

        return scheduled

    @overload
    def read(self, task: TypedTask[Callable[P, T]]) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def read(self, task: str) -> Callable[..., Coroutine[Any, Any, Any]]: ...
    @overload
    def read(self, task: str, *, returns: type[T]) -> Callable[..., Coroutine[Any, Any, T]]: ...
    @overload  # a union is not a `type`
    def read(self, task: str, *, returns: object) -> Callable[..., Coroutine[Any, Any, Any]]: ...
    def read(self, task: Task | str, *, returns: Any = Any) -> Callable[..., Awaitable[Any]]:
        """Return the result of a call without waiting: `await app.read(fib)(11)`.

        Raises:
            NotFoundError: The call has no value yet.
            CallFailedError: The call failed for good.
            ResultDecodeError: The value is not of the type `returns`.
            SignatureError: The arguments do not match the handler.
            BackendError: The store failed.
        """

        async def found(*args: Any, **kwargs: Any) -> Any:
            call = self._catalogue.encode(task, args, kwargs)
            value = await self._connection.value(call.call_hash)
            if value is None:
                raise NotFoundError(
                    f"the call {call.call_hash} of {call.task_name!r} has no value",
                    remedy="Schedule it, wait for it with `result`, or look for it with `brrr dead list`.",
                )
            return self._decode(task, call, value, returns)

        return found

    @overload
    def result(
        self, task: TypedTask[Callable[P, T]], *, topic: str | Scheduled | None = None, timeout: float | None = None
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def result(
        self, task: str, *, topic: str | Scheduled | None = None, timeout: float | None = None
    ) -> Callable[..., Coroutine[Any, Any, Any]]: ...
    @overload
    def result(
        self, task: str, *, topic: str | Scheduled | None = None, timeout: float | None = None, returns: type[T]
    ) -> Callable[..., Coroutine[Any, Any, T]]: ...
    @overload
    def result(
        self, task: str, *, topic: str | Scheduled | None = None, timeout: float | None = None, returns: object
    ) -> Callable[..., Coroutine[Any, Any, Any]]: ...
    def result(
        self,
        task: Task | str,
        *,
        topic: str | Scheduled | None = None,
        timeout: float | None = None,
        returns: Any = Any,
    ) -> Callable[..., Awaitable[Any]]:
        """Wait for the result of a call, and return it: `await app.result(fib, timeout=30)(11)`.

        The wait also ends when the call, or a call that it waits for, is dead-lettered. If the client scheduled the
        call, or you pass its `Scheduled`, any dead letter of the same schedule on its topic ends the wait. A client
        remembers the last 10,000 calls that it scheduled.

        Args:
            task: A handler, or the name of a task.
            topic: The topic of the call, or the `Scheduled` that `schedule` returned.
            timeout: The most seconds to wait; None waits forever.
            returns: The type of the result, if the task is given by its name.

        Raises:
            CallFailedError: The call failed for good.
            BuriedError: The call, a call that it waits for, or another call of its schedule, was dead-lettered. The
                error gives the reason.
            ScheduleCancelledError: The client knows the schedule of the call, and it was cancelled.
            ResultTimeoutError: The call had no value in time.
            ResultDecodeError: The value is not of the type `returns`.
            SignatureError: The arguments do not match the handler.
            ArgumentError: The topic is empty or not a string.
            BackendError: The store or the queue failed.
        """
        if topic is not None and not isinstance(topic, Scheduled):
            check_topic(topic)

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            call = self._catalogue.encode(task, args, kwargs)
            scope = partial(self._scope, call.call_hash, topic)
            value = await wait_for_value(self._connection, call, timeout=timeout, scope=scope, letters=self._letters_of)
            return self._decode(task, call, value, returns)

        return awaited

    @overload
    def status(self, task: TypedTask[Callable[P, Any]]) -> Callable[P, Coroutine[Any, Any, CallStatus]]: ...
    @overload
    def status(self, task: str) -> Callable[..., Coroutine[Any, Any, CallStatus]]: ...
    def status(self, task: Task | str) -> Callable[..., Coroutine[Any, Any, CallStatus]]:
        """Return the status of a call without waiting: `await app.status(fib)(11)`.

        Raises:
            SignatureError: The arguments do not match the handler.
            MalformedRecordError: A record of the call is not valid.
            BackendError: The store or the queue failed.
        """

        async def found(*args: Any, **kwargs: Any) -> CallStatus:
            call_hash = self._catalogue.encode(task, args, kwargs).call_hash
            return await self.status_of(call_hash)

        return found

    async def status_of(self, call_hash: str) -> CallStatus:
        """Return the status of a call by its hash, as logs and dead letters name it.

        Raises:
            MalformedRecordError: A record of the call is not valid.
            BackendError: The store or the queue failed.
        """
        return await read_status(self._connection, call_hash, self._letters_of)

    def dead_letters(
        self,
        topic: str,
        *,
        task: Task | str | None = None,
        call_hash: str | None = None,
        reason: str | None = None,
        older_than: DurationLike | None = None,
        newer_than: DurationLike | None = None,
        ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> LetterSelection:
        """Choose dead letters of a topic to read, redrive, drop or complete: `app.dead_letters("demo", task=fib)`.

        All conditions must hold. Without any, all dead letters of the topic are chosen.

        Args:
            topic: The topic.
            task: A handler, or the name of a task.
            call_hash: A call.
            reason: A part of the reason.
            older_than: The shortest time since they were dead-lettered: seconds, a `timedelta`, or a text such as
                `"2h"`.
            newer_than: The longest time since they were dead-lettered.
            ids: Their ids, as `Letter.id` gives them.
            limit: The most dead letters, oldest first.

        Raises:
            UnknownTaskError: The handler has no name here, or several names.
            ArgumentError: The topic, a duration or the limit is not valid.
        """
        check_topic(topic)
        if limit is not None:
            check_limit(limit)
        choice = LetterChoice(
            ids=ids,
            task=None if task is None else self._catalogue.resolve(task)[0],
            call_hash=call_hash,
            reason=reason,
            older_than=None if older_than is None else seconds(older_than, "older_than"),
            newer_than=None if newer_than is None else seconds(newer_than, "newer_than"),
        )
        return LetterSelection(self._catalogue, self._connection, topic, choice, limit)

    @overload
    def cancel(
        self, task: TypedTask[Callable[P, Any]], *, topic: str, force: bool = False
    ) -> Callable[P, Coroutine[Any, Any, bool]]: ...
    @overload
    def cancel(self, task: str, *, topic: str, force: bool = False) -> Callable[..., Coroutine[Any, Any, bool]]: ...
    def cancel(self, task: Task | str, *, topic: str, force: bool = False) -> Callable[..., Coroutine[Any, Any, bool]]:
        """Ask for the cancellation of a call: `await app.cancel(order, topic="demo")(11)`.

        The next run of its handler raises `Cancelled` at its first `await` of a call without a value. Its result or
        error is the outcome of the call. A handler without `app` no longer runs: the call fails as cancelled. So does a
        call that was never scheduled. The calls that the handler has made continue.

        Repeating the request is safe. The first request of a fleet takes two seconds longer.

        Args:
            task: A handler, or the name of a task.
            topic: The topic of the call.
            force: Let the call fail immediately. Its handler does not get `Cancelled`, so compensation is skipped.

        Returns:
            By the call: False if the call has an outcome already.

        Raises:
            SignatureError: The arguments do not match the handler.
            ArgumentError: The topic is empty or not a string.
            BackendError: A backend failed. Repeating the request is safe.
        """
        check_topic(topic)

        async def cancelled(*args: Any, **kwargs: Any) -> bool:
            call = self._catalogue.encode(task, args, kwargs)
            return await self._connection.cancel(call, topic, force=force)

        return cancelled

    async def cancel_schedule(self, scheduled: Scheduled | str) -> None:
        """Stop all calls of one schedule that no other schedule needs.

        Workers drop the messages of the schedule. Its handlers do not get `Cancelled`, so nothing is compensated.
        Waiting for its result raises `ScheduleCancelledError`.

        Args:
            scheduled: The `Scheduled` that `schedule` returned, or its root id.

        Raises:
            BackendError: A backend failed. Repeating the request is safe.
        """
        root_id = _root_of(scheduled)
        if root_id is not None:
            await self._connection.cancel_schedule(root_id)

    async def resume_schedule(self, scheduled: Scheduled | str) -> None:
        """Undo `cancel_schedule`. Schedule the workflow again, so that its dropped messages are put again.

        Args:
            scheduled: The `Scheduled` that `schedule` returned, or its root id.

        Raises:
            BackendError: A backend failed. Repeating the request is safe.
        """
        root_id = _root_of(scheduled)
        if root_id is not None:
            await self._connection.resume_schedule(root_id)

    @overload
    def retry(self, task: TypedTask[Callable[P, Any]], *, topic: str) -> Callable[P, Coroutine[Any, Any, bool]]: ...
    @overload
    def retry(self, task: str, *, topic: str) -> Callable[..., Coroutine[Any, Any, bool]]: ...
    def retry(self, task: Task | str, *, topic: str) -> Callable[..., Coroutine[Any, Any, bool]]:
        """Run a call that failed or was cancelled once more: `await app.retry(order, topic="demo")(11)`.

        The failed calls that made it fail run again too. Finished calls do not. A parent that has seen the failure
        keeps it. Only a retry changes an outcome. Repeating a retry is safe and completes it.

        Args:
            task: A handler, or the name of a task.
            topic: The topic of the call.

        Returns:
            By the call: False if there is nothing to retry, because the call has a value, is scheduled, or was never
            scheduled.

        Raises:
            SignatureError: The arguments do not match the handler.
            ArgumentError: The topic is empty or not a string.
            BackendError: A backend failed. Repeating the retry completes it.
        """
        check_topic(topic)

        async def retried(*args: Any, **kwargs: Any) -> bool:
            call = self._catalogue.encode(task, args, kwargs)
            root_id = await self._connection.retry(call, topic)
            if root_id is not None:
                self._remember(Scheduled(call.call_hash, root_id, topic))
            return root_id is not None

        return retried

    @overload
    def complete(self, task: TypedTask[Callable[P, T]]) -> Callable[P, Callable[[T], Coroutine[Any, Any, bool]]]: ...
    @overload
    def complete(self, task: str) -> Callable[..., Callable[[Any], Coroutine[Any, Any, bool]]]: ...
    def complete(self, task: Task | str) -> Callable[..., Callable[[Any], Coroutine[Any, Any, bool]]]:
        """Give a call its result by hand, and wake its callers: `await client.complete(fib)(11)(89)`.

        Use it for a call that was dead-lettered and cannot run. If a worker runs the call at the same time, the first
        outcome stays. It returns whether this result became the outcome.

        Raises:
            SignatureError: The arguments do not match the handler.
            EncodeError: An argument or the value cannot be encoded, or the value does not match the annotation.
            BackendError: A backend failed; completing it again is safe.
        """

        def of_call(*args: Any, **kwargs: Any) -> Callable[[Any], Coroutine[Any, Any, bool]]:
            call = self._catalogue.encode(task, args, kwargs)
            _, _, returns = self._catalogue.resolve(task)

            async def complete(value: Any) -> bool:
                encoded = await self._catalogue.encode_result(call.task_name, value, returns)
                return await self._connection.settle(call.call_hash, encoded)

            return complete

        return of_call

    def event(self, name: str, *args: object) -> Event:
        """Return an event, to complete it: `await client.event("approval", order_id).complete(True)`.

        Args:
            name: The name of the event.
            args: The arguments with which handlers wait for it.

        Raises:
            EncodeError: An argument cannot be encoded.
        """
        return Event(
            self._catalogue,
            self._connection,
            self._catalogue.encode(EVENT + name, *self._catalogue.event_arguments(args)),
        )

    def _remember(self, scheduled: Scheduled) -> None:
        known = self._scheduled.get(scheduled.call_hash)
        if scheduled.root_id is not None or known is None or known.topic != scheduled.topic:
            self._scheduled[scheduled.call_hash] = scheduled
        self._scheduled.move_to_end(scheduled.call_hash)
        if len(self._scheduled) > REMEMBERED:
            self._scheduled.popitem(last=False)

    def _scope(self, call_hash: str, given: str | Scheduled | None) -> DeadLetterScope | None:
        known = given if isinstance(given, Scheduled) else self._scheduled.get(call_hash)
        if isinstance(given, str) and (known is None or known.topic != given):
            topic, root_id = given, None
        elif known is not None:
            topic, root_id = known.topic, known.root_id
        else:
            return None
        return DeadLetterScope(self._letters_of(topic), root_id)

    def _letters_of(self, topic: str) -> DeadLetters:
        letters = self._dead_letters.get(topic)
        if letters is None:
            letters = self._dead_letters[topic] = DeadLetters(self._connection.queue, topic)
        return letters

    def _decode(self, task: Task | str, call: Call, value: bytes, returns: Any) -> Any:
        _, _, kind = self._catalogue.resolve(task, returns)
        return self._catalogue.decode(call, value, kind)


def _root_of(scheduled: Scheduled | str) -> str | None:
    return scheduled.root_id if isinstance(scheduled, Scheduled) else scheduled
