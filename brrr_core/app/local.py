"""Runs whole workflows in one process and one call, for unit tests: no backend, no worker to start."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, ParamSpec, TypeVar, cast, overload

from brrr_core.app.functions import takes_worker
from brrr_core.app.handlers import handler, handler_no_arg
from brrr_core.app.tasks import Task, TypedTask
from brrr_core.app.worker import AppWorker
from brrr_core.backend.checks import check_topic
from brrr_core.backend.memory.queue import MemoryQueue
from brrr_core.backend.memory.space import Session, Space
from brrr_core.backend.memory.store import MemoryCache, MemoryStore
from brrr_core.backend.tasks import start_task
from brrr_core.codec.contracts import Codec
from brrr_core.engine.connection import Connection
from brrr_core.engine.hooks import CallBuried, hookimpl
from brrr_core.engine.policy import Policy
from brrr_core.errors import AwaitError, CycleError, NotFoundError

__all__ = ["LocalBrrr"]

P = ParamSpec("P")
T = TypeVar("T")

TOPIC: Final = "local"
LEASE: Final = 3_600.0
POLL: Final = 0.002
"""Seconds between two looks for the result."""


class LocalBrrr:
    """An application in memory: `await LocalBrrr(handlers=dict(fib=fib), codec="json").run(fib)(11)`.

    The real engine runs, with deferring, encoding and re-running, and on every topic that is called. Each run starts
    from nothing. An error that a handler raises is not tried again: it is raised where the run is awaited.

    Args:
        handlers: The handlers by name.
        replace: What runs in place of a task, `replace={pay: fake_pay}`, whether it is called by its handler or by its
            name: a handler, a function, or a mock. A function gets the arguments alone, unless its first parameter is
            annotated with the active worker. The task's own annotations say what arguments are decoded to, and what the
            result must be. A name that is not among `handlers` stands for a task of another programme.
        topic: The topic that runs begin on.
        codec: A codec or the name of one.
        policy: Limits; as it comes, one attempt a call, determinism is checked, and a run that ends waits for nobody.
        concurrency: The most calls under way at a time, a topic.
    """

    def __init__(
        self,
        *,
        handlers: Mapping[str, Task],
        replace: Mapping[Task | str, Callable[..., Any]] | None = None,
        topic: str = TOPIC,
        codec: str | Codec = "json",
        policy: Policy | None = None,
        concurrency: int = 64,
    ) -> None:
        check_topic(topic)
        self._handlers = handlers
        self._replace = dict(replace or {})
        self._topic = topic
        self._codec = codec
        self._policy = policy or Policy(max_attempts=1, check=True, grace=0)
        self._concurrency = concurrency

    @overload
    def run(self, task: TypedTask[Callable[P, T]]) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def run(self, task: str) -> Callable[..., Coroutine[Any, Any, Any]]: ...
    def run(self, task: Task | str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """The result of a call, all that it calls included.

        Raises:
            Exception: What a handler raised, as it was raised.
            BrrrError: What the engine gave up on: a spawn limit, a handler that is not deterministic, calls that wait
                for each other.
        """

        async def result(*args: Any, **kwargs: Any) -> Any:
            session = Session(Space(time.monotonic), asyncio.get_running_loop())
            queue = _WatchedQueue(session, LEASE)
            failure = _FirstFailure()
            connection = Connection(
                queue, MemoryStore(session), MemoryCache(session), policy=self._policy, hooks=[failure]
            )
            app = _LocalWorker(self._handlers, self._replace, self._codec, connection)
            loops = asyncio.TaskGroup()

            def work_on(topic: str) -> None:
                loops.create_task(connection.loop(topic, app.handle, concurrency=self._concurrency))

            queue.on_new_topic = work_on
            # None of the loops: what it raises is raised by itself, and not in a group.
            waiting = failure.waiting = start_task(_scheduled_result(app, queue, task, args, kwargs, topic=self._topic))
            try:
                async with loops:
                    await asyncio.wait({waiting})
                    connection.stop()
            finally:
                waiting.cancel()  # where this run itself was cancelled
                await asyncio.wait({waiting})
                queue.close()
                await connection.close()
            try:
                if failure.error is not None:
                    raise failure.error
                return waiting.result()
            finally:
                failure.error = failure.waiting = None
                del waiting  # what they hold raises, and the traceback holds this frame

        return result


class _LocalWorker(AppWorker):
    """Raises what other workers warn of, and runs what tasks are replaced by."""

    def __init__(
        self,
        handlers: Mapping[str, Task],
        replace: Mapping[Task | str, Callable[..., Any]],
        codec: str | Codec,
        connection: Connection,
    ) -> None:
        elsewhere = {
            name: _task_of(fake) for name, fake in replace.items() if isinstance(name, str) and name not in handlers
        }
        handlers = {**handlers, **elsewhere} if elsewhere else handlers
        super().__init__(handlers=handlers, codec=codec, connection=connection)
        named = {self._catalogue.resolve(task)[0]: fake for task, fake in replace.items()}
        fakes = {name: handlers[name].replaced_by(fake) for name, fake in named.items() if name not in elsewhere}
        self._runs = {**self._catalogue.tasks, **fakes}

    def _never_awaited(self, task: Task, error: AwaitError) -> None:
        raise error


def _task_of(fake: Any) -> Task:
    if isinstance(fake, Task):
        return fake
    return handler(fake) if takes_worker(fake) else handler_no_arg(fake)


class _FirstFailure:
    """Ends the wait for a result that will not come."""

    error: BaseException | None = None
    waiting: "asyncio.Task[Any] | None" = None

    @hookimpl
    def brrr_call_buried(self, event: CallBuried) -> None:
        if self.waiting is not None and self.error is None:
            self.error = event.error
            self.waiting.cancel()


class _WatchedQueue(MemoryQueue):
    """A queue that tells of each new topic, so that somebody works on it."""

    def __init__(self, session: Session, lease: float) -> None:
        super().__init__(session, lease)
        self.on_new_topic: Callable[[str], None] | None = None
        self._seen: set[str] = set()

    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        await super().put(topic, bodies, delay=delay)
        if topic not in self._seen and self.on_new_topic is not None:
            self._seen.add(topic)
            self.on_new_topic(topic)

    async def idle(self) -> bool:
        """Whether no message is ready, leased or delayed."""
        return not any([any((await self.stats(topic))[:3]) for topic in self._seen])


async def _scheduled_result(
    app: AppWorker,
    queue: _WatchedQueue,
    task: Task | str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    topic: str,
) -> Any:
    known = cast("TypedTask[Callable[..., Any]] | str", task)
    await app.schedule(known, topic=topic)(*args, **kwargs)
    while True:
        idle = await queue.idle()  # before the value is looked for: it is written before its message is acknowledged
        try:
            return await app.read(known)(*args, **kwargs)
        except NotFoundError:
            if idle:
                raise CycleError(
                    "nothing is left to run, and the call has no value: its calls wait for each other",
                    remedy="Look for a call that leads back to itself with the same arguments.",
                ) from None
        await asyncio.sleep(POLL)
