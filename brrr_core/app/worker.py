"""The application that a worker runs: handlers by name, a codec, and the function that the loop calls."""

from collections.abc import Mapping

from brrr_core.app.active import ActiveWorker
from brrr_core.app.consumer import AppConsumer
from brrr_core.app.context import current
from brrr_core.app.handlers import Task
from brrr_core.codec.contracts import Codec
from brrr_core.engine.connection import Connection
from brrr_core.engine.run import Run
from brrr_core.errors import UnknownTaskError
from brrr_core.wire import Call

__all__ = ["AppWorker"]


class AppWorker(AppConsumer):
    """Runs the calls of its handlers: `await conn.loop("demo", app.handle)`. It schedules and reads as a consumer does.

    Args:
        handlers: The handlers by the names that their calls carry.
        codec: A codec or the name of one.
        connection: From `brrr.serve`.

    Raises:
        HandlerError: A handler was not made by a decorator of brrr.
        PluginError: There is no such codec.
    """

    _closed = True

    def __init__(self, *, handlers: Mapping[str, Task], codec: str | Codec, connection: Connection) -> None:
        super().__init__(codec=codec, connection=connection, handlers=handlers)

    async def handle(self, run: Run, call: Call) -> bytes:
        """Run the handler of a call, and encode its result: what a loop calls.

        Raises:
            UnknownTaskError: There is no handler of that name.
            DecodeError: The arguments do not fit the handler.
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
            return await self._catalogue.codec.invoke_task(call, task.run)
        finally:
            current.reset(token)
