"""The application that a worker runs: handlers by name, a codec, and the function that the loop calls."""

from collections.abc import Mapping
from typing import Any

from brrr_core.app.active import ActiveWorker
from brrr_core.app.consumer import AppConsumer
from brrr_core.app.context import current
from brrr_core.app.handlers import Task
from brrr_core.codec.contracts import Codec
from brrr_core.engine.connection import Connection
from brrr_core.engine.run import Run
from brrr_core.errors import DecodeError, EncodeError, UnknownTaskError
from brrr_core.safe_text import safe_repr
from brrr_core.wire import Call

__all__ = ["AppWorker"]


class AppWorker(AppConsumer):
    """Runs the calls of its handlers: `await conn.loop("demo", app.handle)`. It schedules and reads as a consumer does.

    Args:
        handlers: The handlers by the names that their calls carry.
        codec: A codec or the name of one.
        connection: From `brrr.serve`.

    Raises:
        HandlerError: A handler was not made by a decorator of brrr, or has an annotation that the codec cannot decode.
        PluginError: There is no such codec.
    """

    _closed = True

    def __init__(self, *, handlers: Mapping[str, Task], codec: str | Codec, connection: Connection) -> None:
        super().__init__(codec=codec, connection=connection, handlers=handlers)
        for task in self._catalogue.tasks.values():
            self._catalogue.codec.check_task(task.run, returns=task.returns)

    async def handle(self, run: Run, call: Call) -> bytes:
        """Run the handler of a call, and encode its result: what a loop calls.

        Raises:
            UnknownTaskError: There is no handler of that name.
            DecodeError: The arguments do not fit the handler.
            EncodeError: The result cannot be encoded, or does not fit the handler's annotation.
            BaseException: What the handler raises, `Defer` included.
        """
        task = self._catalogue.tasks.get(call.task_name)
        if task is None:
            raise UnknownTaskError(
                f"this worker has no handler {call.task_name!r}; it has {', '.join(sorted(self._catalogue.tasks))}",
                remedy=f"Add it, or send its calls to another topic than {run.topic!r}.",
            )
        token = current.set(ActiveWorker(run, self._catalogue))
        try:
            payload = await self._catalogue.codec.invoke_task(call, task.run)
        finally:
            current.reset(token)
        self._check_result(call, task.returns, payload)
        return payload

    def _check_result(self, call: Call, returns: Any, payload: bytes) -> None:
        """Refuse a result that its readers could not decode: once stored, it never changes."""
        if returns is Any:
            return
        try:
            self._catalogue.codec.decode_return(call.task_name, payload, returns=returns)
        except DecodeError as error:
            raise EncodeError(
                f"the result of task {call.task_name!r} does not fit its annotation {safe_repr(returns)}, "
                f"and was not stored: {error.what}",
                remedy="Return what the annotation says, or correct the annotation; then redrive the call.",
            ) from error
