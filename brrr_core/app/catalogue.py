"""The catalogue of an application: its tasks, their names, and its codec."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from brrr_core.app.tasks import Task
from brrr_core.codec import Codec
from brrr_core.engine.calls import EVENT
from brrr_core.engine.connection import Connection
from brrr_core.engine.failures import check_details, check_value, raise_if_failed
from brrr_core.errors import (
    DeadlineExceededError,
    DecodeError,
    EncodeError,
    HandlerError,
    ResultDecodeError,
    UnknownTaskError,
)
from brrr_core.plugins import load_codec
from brrr_core.safe_text import safe_repr
from brrr_core.wire import Call

__all__ = ["Arrange", "Catalogue", "arranging", "checked_tasks", "encode_value", "expired"]

T = TypeVar("T")

_PLAIN: Final = (bool, int, str, type(None))
"""Types whose values have the same bytes exactly if they are equal."""

Arguments: TypeAlias = tuple[Sequence[object], Mapping[str, object]]
Arrange: TypeAlias = Callable[[Sequence[object], Mapping[str, object]], Arguments]


class Catalogue:
    """The tasks of an application, their names, and its codec.

    Args:
        handlers: The handlers by task name.
        codec: A codec, or the name of one.
        connection: The connection for calls.
        closed: Whether a handler that is not among `handlers` is an error. If not, the function's name is the task
            name.

    Raises:
        HandlerError: A handler was not made by `brrr.handler` or `brrr.handler_no_arg`.
        PluginError: The codec is not known.
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
                f"the handlers are a {type(handlers).__name__}, not a dict",
                remedy="Pass a dict of names and handlers: dict(fib=fib).",
            )
        self.tasks = checked_tasks(handlers)
        self.codec = load_codec(codec)
        self.connection = connection
        self._closed = closed
        self.simulated: set[str] = set()
        """Names of events that workers run like calls, in unit tests."""
        self._names: dict[Task, list[str]] = {}
        for name, task in handlers.items():
            self._names.setdefault(task, []).append(name)
        self._arranging: dict[Task, Arrange] = {task: arranging(task, self.codec) for task in self._names}

    def resolve(self, task: Task | str, returns: Any = Any) -> tuple[str, Arrange, Any]:
        """Return the name of a task, the function that arranges its arguments, and the type of its result.

        If the name belongs to a handler of this application, it means that handler. So both ways make the same call.

        Raises:
            UnknownTaskError: The handler has no name here, or several names.
        """
        if isinstance(task, str):
            known = self.tasks.get(task)
            if known is None:
                return task, _as_given, returns
            return task, self._arranging[known], known.returns if returns is Any else returns
        if not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
            raise HandlerError(
                f"{safe_repr(task)} is neither a handler nor a name",
                remedy="Decorate it with `brrr.handler` or `brrr.handler_no_arg`.",
            )
        names = self._names.get(task, [])
        if len(names) > 1 or (not names and self._closed):
            raise UnknownTaskError(
                f"the handler {task.name!r} is registered as {names}"
                if names
                else f"the handler {task.name!r} is not registered",
                remedy="Call it by one of these names, as a string."
                if names
                else "Add it to `handlers`, or call it by its name.",
            )
        arrange = self._arranging.get(task) or arranging(task, self.codec)
        return names[0] if names else task.name, arrange, task.returns

    def encode(self, task: Task | str, args: Sequence[object], kwargs: Mapping[str, object]) -> Call:
        """Return the call of a task with these arguments.

        Raises:
            SignatureError: The arguments do not match the handler.
            EncodeError: An argument cannot be encoded.
        """
        name, arrange, _ = self.resolve(task)
        return self.codec.encode_call(name, *arrange(args, kwargs))

    def event_arguments(self, args: Sequence[object]) -> Arguments:
        """Return the arguments that identify an event. A codec without positional arguments gets them as `args`."""
        return ((), {"args": list(args)}) if self.codec.keyword_only and args else (args, {})

    def decode(self, call: Call, value: bytes, returns: Any) -> Any:
        """Return the result of a call, decoded from its value.

        Raises:
            CallFailedError: The call failed for good.
            ResultDecodeError: The value is not of the type `returns`.
        """
        raise_if_failed(call, value, lambda details: self._decode(call.task_name, details, Any))
        return self._decode(call.task_name, value, returns)

    async def encode_details(self, task_name: str, details: object) -> bytes:
        """Return the encoded details of a failure.

        Raises:
            EncodeError: They cannot be encoded, or are too large.
        """
        encoded = await encode_value(self.codec, task_name, details)
        check_details(task_name, encoded)
        return encoded

    async def encode_result(self, task_name: str, value: object, returns: Any) -> bytes:
        """Return the encoded result of a call.

        Raises:
            EncodeError: It cannot be encoded, or does not match `returns`.
        """
        encoded = await encode_value(self.codec, task_name, value)
        self.check_result(task_name, encoded, returns)
        return encoded

    def check_result(self, task_name: str, payload: bytes, returns: Any) -> None:
        """Refuse a result that readers could not decode, because a stored result never changes.

        Raises:
            EncodeError: It does not match `returns`, or readers would take it for a failure.
        """
        check_value(task_name, payload)
        if returns is Any:
            return
        try:
            self.codec.decode_return(task_name, payload, returns=returns)
        except DecodeError as error:
            raise EncodeError(
                f"the result of task {task_name!r} does not fit its annotation {safe_repr(returns)}, "
                f"and was not stored: {error.what}",
                remedy="Return what the annotation says, or correct the annotation; then redrive the call.",
            ) from error

    def _decode(self, task_name: str, value: bytes, returns: Any) -> Any:
        try:
            return self.codec.decode_return(task_name, value, returns=returns)
        except DecodeError as error:
            raise ResultDecodeError(error.what, remedy=error.remedy) from error

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Run a blocking function in a thread of the connection."""
        return await self.connection.in_thread(function)


def arranging(task: Task, codec: Codec) -> Arrange:
    """Return the function that arranges the arguments of a task for a codec.

    Raises:
        HandlerError: A parameter cannot be `Added`.
    """
    keyword_only = codec.keyword_only
    is_default = _defaults(task, codec) if task.added else None

    def arrange(args: Sequence[object], kwargs: Mapping[str, object]) -> Arguments:
        return task.arrange(args, kwargs, keyword_only=keyword_only, is_default=is_default)

    return arrange


def _defaults(task: Task, codec: Codec) -> Callable[[str, object], bool]:
    """Return a predicate: whether an `Added` parameter gets its default, which is a value with the same bytes."""

    def encoded(value: object) -> bytes:
        return codec.encode_call("", (), {"value": value}).payload

    defaults: dict[str, bytes] = {}
    for name, default in task.added.items():
        try:
            defaults[name] = encoded(default)
        except EncodeError as error:
            raise HandlerError(
                f"the default of parameter {name!r} of the handler {task.name!r} cannot be encoded: {error.what}",
                remedy="An `Added` parameter needs a default that the codec can encode, for example None.",
            ) from error

    def is_default(name: str, value: object) -> bool:
        default = task.added[name]
        if type(value) in _PLAIN and type(value) is type(default):
            return value == default
        try:
            return encoded(value) == defaults[name]
        except EncodeError:  # encoding the whole call raises it again, and names the argument
            return False

    return is_default


async def encode_value(codec: Codec, task_name: str, value: object) -> bytes:
    """Return a value, encoded like the result of a task.

    Raises:
        EncodeError: It cannot be encoded.
    """

    async def result() -> Any:
        return value

    return await codec.invoke_task(codec.encode_call(task_name, (), {}), result)


def checked_tasks(handlers: Mapping[str, Task], of: str = "") -> dict[str, Task]:
    """Return a copy of the handlers by name.

    Args:
        handlers: The handlers.
        of: Their origin, for the error: ` of tasks:handlers`.

    Raises:
        HandlerError: A handler was not made by `brrr.handler` or `brrr.handler_no_arg`.
    """
    for name, task in handlers.items():
        if not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
            raise HandlerError(
                f"the handler {name!r}{of} is a plain {type(task).__name__}",
                remedy="Decorate it with `brrr.handler` or `brrr.handler_no_arg`.",
            )
    return dict(handlers)


def expired(call: Call) -> DeadlineExceededError:
    """Return the error of a call or an event that had no outcome before its deadline."""
    name = call.task_name.removeprefix(EVENT)
    what = f"the event {name!r}" if name != call.task_name else f"the call {call.call_hash} of {name!r}"
    error = DeadlineExceededError(
        f"{what} had no outcome before the deadline",
        remedy="Handle DeadlineExceededError in the calling handler, or set a longer deadline.",
    )
    error.task_name, error.call_hash = call.task_name, call.call_hash
    return error


def _as_given(args: Sequence[object], kwargs: Mapping[str, object]) -> Arguments:
    return args, kwargs
