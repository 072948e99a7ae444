"""The application of a worker: its handlers, its codec, and the `handle` that the loop calls."""

import asyncio
import warnings
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias

from brrr_core.app.active import ActiveWorker
from brrr_core.app.consumer import AppConsumer
from brrr_core.app.functions import name_of
from brrr_core.app.tasks import Task, active_worker
from brrr_core.codec import Codec
from brrr_core.engine.calls import Cancelled, Defer
from brrr_core.engine.connection import Connection
from brrr_core.engine.lifespan import Lifespan
from brrr_core.engine.run import Run
from brrr_core.errors import AwaitError, TerminalError, UnknownTaskError
from brrr_core.wire import Call

__all__ = ["AppWorker", "LifespanFunction"]

LifespanFunction: TypeAlias = Callable[["AppWorker"], AbstractAsyncContextManager[object]]
"""An async context manager function that gets the application and yields the state."""


class AppWorker(AppConsumer):
    """Runs the calls of its handlers: `await conn.loop("demo", app.handle)`. It is also an `AppConsumer`.

    The loops enter the lifespan. `async with app:` enters it too, for a program that needs the state around its loops.

    Args:
        handlers: The handlers by task name.
        codec: A codec or the name of one.
        connection: From `brrr.serve`.
        lifespan: An async context manager function. It gets this application, and yields the state: pools and clients
            that all calls share, as `app.state`. It is entered before the first loop receives, and left after the last
            loop has ended.

    Raises:
        HandlerError: A handler was not made by a decorator of brrr, or has an annotation that the codec cannot decode.
        PluginError: The codec is not known.
    """

    _closed = True

    def __init__(
        self,
        *,
        handlers: Mapping[str, Task],
        codec: str | Codec,
        connection: Connection,
        lifespan: LifespanFunction | None = None,
    ) -> None:
        super().__init__(codec=codec, connection=connection, handlers=handlers)
        self._lifespan = Lifespan() if lifespan is None else Lifespan(name_of(lifespan), partial(lifespan, self))
        for task in self._catalogue.tasks.values():
            self._catalogue.codec.check_task(task.run, returns=task.returns)
        self._runs = self._catalogue.tasks
        """The task that runs for each name."""
        self._warned: dict[str | tuple[str, type[Warning], int], int] = {}

    async def __aenter__(self) -> Self:
        await self._lifespan.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._lifespan.leave()

    @property
    def state(self) -> Any:
        """The object that the lifespan yielded.

        Raises:
            LifespanError: The state was not made yet, or is closed.
        """
        return self._lifespan.state

    async def handle(self, run: Run, call: Call) -> bytes:
        """Run the handler of a call, and return its encoded result. The loop calls this.

        Raises:
            UnknownTaskError: The worker has no handler for the task.
            DecodeError: The arguments do not match the handler.
            VersionError: The call began with older code of the handler, which this code cannot continue.
            EncodeError: The result cannot be encoded, or does not match the annotation of the handler.
            BaseException: The error of the handler, including `Defer`.
        """
        task = self._runs.get(call.task_name)
        if task is None:
            raise UnknownTaskError(
                f"this worker has no handler {call.task_name!r}, only {', '.join(sorted(self._catalogue.tasks))}",
                remedy=f"Add the handler, or schedule its calls on another topic than {run.topic!r}.",
            )
        run.policy = task.policy
        if run.state.cancel and not task.takes_app:
            raise Cancelled
        if task.policy.version is not None:
            await run.find_version(task.policy.version)
        active = ActiveWorker(run, self._catalogue, self._lifespan)
        token = active_worker.set(active)
        returned = False
        try:
            invoked = self._catalogue.codec.invoke_task(call, task.run)
            limit = task.policy.timeout
            payload = await (invoked if limit is None else _within(limit, invoked, call))
            returned = not run.missing and run.backend_error is None
        except TerminalError as error:
            if error.details is not None:
                error.encoded_details = await self._catalogue.encode_details(call.task_name, error.details)
            raise
        except Defer as aborted:
            if _passed_wait_for(aborted):
                self._warn_of_wait_for(run, task)
            raise
        finally:
            active_worker.reset(token)
            never_awaited = active.end(returned=returned)
        self._catalogue.check_result(call.task_name, payload, task.returns)
        for name in never_awaited:
            self._never_awaited(
                task,
                AwaitError(
                    f"PendingCall of task {name!r} was never awaited by the handler {call.task_name!r}",
                    remedy="Write `await` before it, or give it to `app.gather`: by itself it does nothing.",
                ),
            )
        return payload

    def _never_awaited(self, task: Task, error: AwaitError) -> None:
        self._warn(task, f"{error.what}. {error.remedy}")

    def _warn_of_wait_for(self, run: Run, task: Task) -> None:
        try:
            self._warn(
                task,
                f"`asyncio.wait_for` in the handler {task.name!r} does not limit the durable call within: the handler "
                "is aborted at the call, and run again once there is a value. Limit the work in the called task, or "
                "wait in a client, with `result(..., timeout=...)`.",
            )
        except Warning:
            run.missing.clear()  # a filter turns warnings into errors: the run fails and is not deferred
            raise

    def _warn(self, task: Task, text: str) -> None:
        """Warn at the first line of the handler, once per process and text unless filters say otherwise."""
        filename, line = task.place
        warnings.warn_explicit(text, RuntimeWarning, filename, line, registry=self._warned)


async def _within(seconds: float, invoked: Coroutine[Any, Any, bytes], call: Call) -> bytes:
    """Return the result of a handler. Cancel it after some seconds."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await invoked
    except TimeoutError as error:
        if not limit.expired():
            raise
        text = f"the handler {call.task_name!r} ran longer than its timeout of {seconds:g} s"
        raise TimeoutError(text) from error


def _passed_wait_for(aborted: Defer) -> bool:
    """Whether a handler was aborted through `asyncio.wait_for` with a timeout."""
    step, code = aborted.__traceback__, asyncio.wait_for.__code__
    while step is not None:
        frame = step.tb_frame
        if frame.f_code is code:
            return frame.f_locals.get("timeout") is not None
        step = step.tb_next
    return False
