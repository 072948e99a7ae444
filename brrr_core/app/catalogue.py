"""The catalogue of an application: its tasks, their names, and its codec."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from brrr_core.app.tasks import Task
from brrr_core.codec import Codec
from brrr_core.engine.connection import Connection
from brrr_core.engine.failures import check_details, raise_if_failed
from brrr_core.errors import DecodeError, HandlerError, ResultDecodeError, UnknownTaskError
from brrr_core.plugins import load_codec
from brrr_core.safe_text import safe_repr
from brrr_core.wire import Call

__all__ = ["Catalogue", "checked_tasks"]

T = TypeVar("T")

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
        self._names: dict[Task, list[str]] = {}
        for name, task in handlers.items():
            self._names.setdefault(task, []).append(name)

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
            return task, self._arranging(known), known.returns if returns is Any else returns
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
        return names[0] if names else task.name, self._arranging(task), task.returns

    def encode(self, task: Task | str, args: Sequence[object], kwargs: Mapping[str, object]) -> Call:
        """Return the call of a task with these arguments.

        Raises:
            SignatureError: The arguments do not match the handler.
            EncodeError: An argument cannot be encoded.
        """
        name, arrange, _ = self.resolve(task)
        return self.codec.encode_call(name, *arrange(args, kwargs))

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

        async def result() -> Any:
            return details

        encoded = await self.codec.invoke_task(self.codec.encode_call(task_name, (), {}), result)
        check_details(task_name, encoded)
        return encoded

    def _decode(self, task_name: str, value: bytes, returns: Any) -> Any:
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


def _as_given(args: Sequence[object], kwargs: Mapping[str, object]) -> Arguments:
    return args, kwargs
