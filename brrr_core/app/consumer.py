"""Clients of an application: they schedule calls and read results, and run nothing themselves."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, ParamSpec, TypeAlias, TypeVar, overload
from weakref import WeakValueDictionary

from brrr_core.app.handlers import Task, TypedTask
from brrr_core.backend.checks import check_topic
from brrr_core.codec.contracts import Codec
from brrr_core.engine.connection import Connection
from brrr_core.engine.waiting import DeadLetters, Watch, wait_for_value
from brrr_core.errors import DecodeError, HandlerError, NotFoundError, ResultDecodeError, UnknownTaskError
from brrr_core.plugins import load_codec
from brrr_core.safe_text import safe_repr
from brrr_core.wire import Call

__all__ = ["AppConsumer", "Catalogue", "Scheduled"]

P = ParamSpec("P")
T = TypeVar("T")

Arguments: TypeAlias = tuple[Sequence[object], Mapping[str, object]]
Arrange: TypeAlias = Callable[[Sequence[object], Mapping[str, object]], Arguments]

REMEMBERED: Final = 10_000
"""The most calls of which a client remembers their topic and the root id of its schedule."""


class Scheduled(NamedTuple):
    """What `schedule` did.

    Attributes:
        call_hash: The identity of the call.
        root_id: The token that all messages of this schedule carry; None where nothing was put, the result being there.
        topic: Where it was put.
    """

    call_hash: str
    root_id: str | None
    topic: str


class Catalogue:
    """The tasks of an application, their names, and its codec.

    Args:
        handlers: The handlers by the names that their calls carry.
        codec: A codec, or the name of one.
        connection: Where calls go.
        closed: Whether a handler that is not among `handlers` is an error. If not, its own name is its task's.

    Raises:
        HandlerError: A handler was not made by `brrr.handler` or `brrr.handler_no_arg`.
        PluginError: There is no such codec.
    """

    def __init__(
        self,
        handlers: Mapping[str, Task],
        codec: str | Codec,
        connection: Connection,
        *,
        closed: bool,
    ) -> None:
        if not isinstance(handlers, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
            raise HandlerError(
                f"the handlers are a {type(handlers).__name__}",
                remedy="Give a dict of names and handlers: dict(fib=fib).",
            )
        for name, task in handlers.items():
            if not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
                raise HandlerError(
                    f"the handler {name!r} is a plain {type(task).__name__}",
                    remedy="Decorate it with `brrr.handler` or `brrr.handler_no_arg`.",
                )
        self.codec = load_codec(codec)
        self.tasks = dict(handlers)
        self.connection = connection
        self._closed = closed
        self._names: dict[Task, list[str]] = {}
        for name, task in handlers.items():
            self._names.setdefault(task, []).append(name)

    def resolve(self, task: Task | str, returns: Any = Any) -> tuple[str, Arrange, Any]:
        """The name of a task, what arranges arguments for it, and the type of its result.

        The name of a handler of this application means that handler, so that both ways of calling it are one call.

        Raises:
            UnknownTaskError: The handler has no name here, or several.
        """
        if isinstance(task, str):
            known = self.tasks.get(task)
            if known is None:
                return task, _as_given, returns
            return task, self._arranging(known), known.returns if returns is Any else returns
        if not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
            raise HandlerError(
                f"{safe_repr(task)} is neither a handler nor a name",
                remedy="Decorate it with `brrr.handler` or `brrr.handler_no_arg`.",
            )
        names = self._names.get(task, [])
        if len(names) > 1 or (not names and self._closed):
            raise UnknownTaskError(
                f"the handler {task.name!r} is registered as {names}" if names else f"{task.name!r} is no handler here",
                remedy="Call it by its name, as a string."
                if names
                else "Add it to `handlers`, or call it by its name.",
            )
        return names[0] if names else task.name, self._arranging(task), task.returns

    def encode(self, task: Task | str, args: Sequence[object], kwargs: Mapping[str, object]) -> Call:
        """The call of a task with these arguments.

        Raises:
            SignatureError: The arguments do not fit the handler.
            EncodeError: An argument cannot be encoded.
        """
        name, arrange, _ = self.resolve(task)
        return self.codec.encode_call(name, *arrange(args, kwargs))

    def decode(self, task_name: str, value: bytes, returns: Any) -> Any:
        """The result of a call, from its stored value.

        Raises:
            ResultDecodeError: The value is not of the type `returns`.
        """
        try:
            return self.codec.decode_return(task_name, value, returns=returns)
        except DecodeError as error:
            raise ResultDecodeError(error.what, remedy=error.remedy) from error

    def _arranging(self, task: Task) -> Arrange:
        keyword_only = self.codec.keyword_only

        def arrange(args: Sequence[object], kwargs: Mapping[str, object]) -> Arguments:
            return task.arrange(args, kwargs, keyword_only=keyword_only)

        return arrange

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Run a blocking function in a thread of the connection."""
        return await self.connection.in_thread(function)


class AppConsumer:
    """Schedules calls and reads their results.

    Args:
        codec: A codec or the name of one; the workers must use the same.
        connection: From `brrr.connect` or `brrr.serve`.
        handlers: Handlers by name, where their tasks are not named as the functions are.

    Raises:
        HandlerError: A handler was not made by a decorator of brrr.
        PluginError: There is no such codec.
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
        delay: float = 0,
        redrive: bool = False,
        spawn_limit: int | None = None,
    ) -> Callable[P, Coroutine[Any, Any, Scheduled]]: ...
    @overload
    def schedule(
        self, task: str, *, topic: str, delay: float = 0, redrive: bool = False, spawn_limit: int | None = None
    ) -> Callable[..., Coroutine[Any, Any, Scheduled]]: ...
    def schedule(
        self, task: Task | str, *, topic: str, delay: float = 0, redrive: bool = False, spawn_limit: int | None = None
    ) -> Callable[..., Coroutine[Any, Any, Scheduled]]:
        """Have a call run by the workers of a topic: `await app.schedule(fib, topic="demo")(11)`.

        A call that has a value is not put again. Scheduling twice is safe.

        Args:
            task: A handler, or the name of a task in any language.
            topic: Whose workers run it.
            delay: Seconds before it may run.
            redrive: Put every child that is missing once more: for a queue that lost messages.
            spawn_limit: The most messages that this schedule may cause, all calls and wake-ups included; the policy's
                limit if it is left out. Workers of every SDK honour it.

        Raises:
            SignatureError: The arguments do not fit the handler.
            EncodeError: An argument cannot be encoded.
            UnknownTaskError: The handler is not among the application's handlers.
            ArgumentError: The topic is empty, the delay no number of seconds, or the spawn limit less than 1.
            BackendError: A backend failed; scheduling again is safe.
        """

        async def scheduled(*args: Any, **kwargs: Any) -> Scheduled:
            call = self._catalogue.encode(task, args, kwargs)
            root_id = await self._connection.schedule(
                call, topic, delay=delay, redrive=redrive, spawn_limit=spawn_limit
            )
            done = Scheduled(call.call_hash, root_id, topic)
            self._remember(done)
            return done

        return scheduled

    @overload
    def read(self, task: TypedTask[Callable[P, T]]) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def read(self, task: str) -> Callable[..., Coroutine[Any, Any, Any]]: ...
    @overload
    def read(self, task: str, *, returns: type[T]) -> Callable[..., Coroutine[Any, Any, T]]: ...
    @overload  # a union is no `type`
    def read(self, task: str, *, returns: object) -> Callable[..., Coroutine[Any, Any, Any]]: ...
    def read(self, task: Task | str, *, returns: Any = Any) -> Callable[..., Awaitable[Any]]:
        """The result of a call, now: `await app.read(fib)(11)`.

        Raises:
            NotFoundError: There is no value (yet).
            ResultDecodeError: The value is not of the type that is asked for.
            SignatureError: The arguments do not fit the handler.
            BackendError: The store failed.
        """

        async def found(*args: Any, **kwargs: Any) -> Any:
            call = self._catalogue.encode(task, args, kwargs)
            value = await self._connection.value(call.call_hash)
            if value is None:
                raise NotFoundError(
                    f"the call {call.call_hash} of {call.task_name!r} has no value",
                    remedy="Schedule it, wait for it with `result`, or look for it among the dead letters.",
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
        """Return the result of a call, once it is there: `await app.result(fib, timeout=30)(11)`.

        If the topic is known, the wait also ends when the call is dead-lettered there. A client knows the topics of
        the last 10,000 calls that it scheduled itself; another one must be told. A dead letter of another call of the
        same schedule ends the wait too, if the client scheduled the call or is given its `Scheduled`. Without a topic
        the wait for a call that was given up ends at the timeout only, and so it does if the given up call is on
        another topic or was put on its queue by another schedule.

        Args:
            task: A handler, or the name of a task.
            topic: The topic of the call, or what `schedule` returned for it.
            timeout: The most seconds to wait; without it, for ever.
            returns: The type that the result of a task called by its name is decoded to.

        Raises:
            BuriedError: The call, or another call of its schedule, was dead-lettered; with the reason.
            ResultTimeoutError: There was no value in time.
            ResultDecodeError: The value is not of the type that is asked for.
            SignatureError: The arguments do not fit the handler.
            ArgumentError: The topic is no text, or empty.
            BackendError: The store or the queue failed.
        """
        if topic is not None and not isinstance(topic, Scheduled):
            check_topic(topic)

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            call = self._catalogue.encode(task, args, kwargs)
            watch = partial(self._watch, call.call_hash, topic)
            value = await wait_for_value(self._connection, call, timeout=timeout, watch=watch)
            return self._decode(task, call, value, returns)

        return awaited

    def _remember(self, scheduled: Scheduled) -> None:
        self._scheduled[scheduled.call_hash] = scheduled
        self._scheduled.move_to_end(scheduled.call_hash)
        if len(self._scheduled) > REMEMBERED:
            self._scheduled.popitem(last=False)

    def _watch(self, call_hash: str, given: str | Scheduled | None) -> Watch | None:
        known = given if isinstance(given, Scheduled) else self._scheduled.get(call_hash)
        if isinstance(given, str) and (known is None or known.topic != given):
            topic, root_id = given, None
        elif known is not None:
            topic, root_id = known.topic, known.root_id
        else:
            return None
        letters = self._dead_letters.get(topic)
        if letters is None:
            letters = self._dead_letters[topic] = DeadLetters(self._connection.queue, topic)
        return Watch(letters, root_id)

    def _decode(self, task: Task | str, call: Call, value: bytes, returns: Any) -> Any:
        _, _, kind = self._catalogue.resolve(task, returns)
        return self._catalogue.decode(call.task_name, value, kind)


def _as_given(args: Sequence[object], kwargs: Mapping[str, object]) -> Arguments:
    return args, kwargs
