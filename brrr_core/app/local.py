"""Run whole workflows in one process, for unit tests. You need no backend and no worker."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, ParamSpec, TypeVar, cast, overload

from brrr_core.app.functions import takes_worker
from brrr_core.app.handlers import handler, handler_no_arg
from brrr_core.app.tasks import Task, TypedTask
from brrr_core.app.worker import AppWorker, LifespanFunction
from brrr_core.backend.checks import check_topic
from brrr_core.backend.memory.queue import MemoryQueue
from brrr_core.backend.memory.space import Session, Space
from brrr_core.backend.memory.store import MemoryCache, MemoryStore
from brrr_core.backend.tasks import start_task
from brrr_core.codec import Codec
from brrr_core.engine.calls import EVENT
from brrr_core.engine.connection import Connection
from brrr_core.engine.control import MARKER
from brrr_core.engine.policy import Policy
from brrr_core.errors import AwaitError, CycleError, NotFoundError
from brrr_core.hooks import CallBuried, hookimpl

__all__ = ["LocalBrrr"]

P = ParamSpec("P")
T = TypeVar("T")

TOPIC: Final = "local"
LEASE: Final = 3_600.0
POLL: Final = 0.002
"""Seconds between two reads of the result."""


class LocalBrrr:
    """An application in memory: `await LocalBrrr(handlers=dict(fib=fib), codec="json").run(fib)(11)`.

    It uses the real engine: it encodes, defers and re-runs calls on all topics. Each run starts with an empty store. If
    a handler raises, there is no other attempt: `await` raises the error. Sleeps, deadlines and delays take no time: if
    nothing else is left to do, the clock advances to the end of the next one.

    Args:
        handlers: The handlers by name.
        replace: Handlers, functions or mocks to run in place of tasks: `replace={pay: fake_pay}`. They also replace
            calls by name. A function gets the active worker only if its first parameter is annotated with it. The
            annotations of the task, not of the replacement, say how arguments are decoded and which results are valid.
            A name that is not among `handlers` is a task of another program.
        events: Functions that replace events, by name: `events={"approval": lambda order_id: True}`. A function gets
            the arguments of the event, and its result is the value. It may sleep or raise, like a replacement.
        topic: The topic of the first call.
        codec: A codec or the name of one.
        policy: Limits. The default is one attempt for each call, `check` on, and no grace at the end of a run.
        concurrency: The most calls that run at the same time on one topic.
        lifespan: As that of `AppWorker`. Each run enters and leaves it.
    """

    def __init__(
        self,
        *,
        handlers: Mapping[str, Task],
        replace: Mapping[Task | str, Callable[..., Any]] | None = None,
        events: Mapping[str, Callable[..., Any]] | None = None,
        topic: str = TOPIC,
        codec: str | Codec = "json",
        policy: Policy | None = None,
        concurrency: int = 64,
        lifespan: LifespanFunction | None = None,
    ) -> None:
        check_topic(topic)
        self._handlers = handlers
        self._replace = dict(replace or {}) | {EVENT + name: fake for name, fake in (events or {}).items()}
        self._topic = topic
        self._codec = codec
        self._policy = policy or Policy(max_attempts=1, check=True, grace=0)
        self._concurrency = concurrency
        self._lifespan = lifespan

    @overload
    def run(self, task: TypedTask[Callable[P, T]]) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def run(self, task: str) -> Callable[..., Coroutine[Any, Any, Any]]: ...
    def run(self, task: Task | str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Run a call with all its children, and return its result.

        Raises:
            Exception: The error of a handler, unchanged.
            BrrrError: The engine dead-lettered a call: the spawn limit was reached, a handler is not deterministic, or
                calls wait for each other.
        """

        async def result(*args: Any, **kwargs: Any) -> Any:
            clock = _Clock()
            session = Session(Space(clock.monotonic), asyncio.get_running_loop())
            queue = _WatchedQueue(session, LEASE, clock)
            failure = _FirstFailure()
            connection = Connection(
                queue,
                MemoryStore(session),
                MemoryCache(session),
                policy=self._policy,
                hooks=[failure],
                clock=clock.time,
            )
            await connection.store.write([(MARKER, b"0")])  # so that cancellations need not wait for workers
            app = _LocalWorker(self._handlers, self._replace, self._codec, connection, self._lifespan)
            loops = asyncio.TaskGroup()

            def work_on(topic: str) -> None:
                loops.create_task(connection.loop(topic, app.handle, concurrency=self._concurrency))

            queue.on_new_topic = work_on
            async with AsyncExitStack() as stack:
                stack.push_async_callback(connection.close)
                stack.callback(queue.close)
                await stack.enter_async_context(app)
                # Not a task of the group, so that its error is raised by itself and not in an ExceptionGroup.
                waiting = failure.waiting = start_task(
                    _scheduled_result(app, queue, task, args, kwargs, topic=self._topic)
                )
                try:
                    async with loops:
                        await asyncio.wait({waiting})
                        connection.stop()
                finally:
                    waiting.cancel()  # if this run was cancelled
                    await asyncio.wait({waiting})
                try:
                    if failure.error is not None:
                        raise failure.error
                    return waiting.result()
                finally:
                    failure.error = failure.waiting = None
                    del waiting  # they keep the error, whose traceback holds this frame

        return result


class _LocalWorker(AppWorker):
    """Raises the warnings of other workers as errors, and runs the replacements of tasks."""

    def __init__(
        self,
        handlers: Mapping[str, Task],
        replace: Mapping[Task | str, Callable[..., Any]],
        codec: str | Codec,
        connection: Connection,
        lifespan: LifespanFunction | None,
    ) -> None:
        elsewhere = {
            name: _task_of(fake) for name, fake in replace.items() if isinstance(name, str) and name not in handlers
        }
        handlers = {**handlers, **elsewhere} if elsewhere else handlers
        super().__init__(handlers=handlers, codec=codec, connection=connection, lifespan=lifespan)
        named = {self._catalogue.resolve(task)[0]: fake for task, fake in replace.items()}
        fakes = {name: handlers[name].replaced_by(fake) for name, fake in named.items() if name not in elsewhere}
        self._runs = {**self._catalogue.tasks, **fakes}
        self._catalogue.simulated = {name.removeprefix(EVENT) for name in self._runs if name.startswith(EVENT)}

    def _never_awaited(self, task: Task, error: AwaitError) -> None:
        raise error


def _task_of(fake: Any) -> Task:
    if isinstance(fake, Task):
        return fake
    return handler(fake) if takes_worker(fake) else handler_no_arg(fake)


class _FirstFailure:
    """Ends the wait for the result when a call is dead-lettered, and keeps the error."""

    error: BaseException | None = None
    waiting: "asyncio.Task[Any] | None" = None

    @hookimpl
    def brrr_call_buried(self, event: CallBuried) -> None:
        if self.waiting is not None and self.error is None and not event.final:
            self.error = event.error
            self.waiting.cancel()


class _Clock:
    """The clocks of one run, which can be advanced."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def time(self) -> float:
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += max(0.0, seconds)


class _WatchedQueue(MemoryQueue):
    """A queue that reports each new topic, so that a loop is started for it, and that skips delays."""

    def __init__(self, session: Session, lease: float, clock: _Clock) -> None:
        super().__init__(session, lease)
        self._advancing = clock
        self.on_new_topic: Callable[[str], None] | None = None
        self._seen: set[str] = set()

    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        await super().put(topic, bodies, delay=delay)
        if topic not in self._seen and self.on_new_topic is not None:
            self._seen.add(topic)
            self.on_new_topic(topic)

    async def quiet(self) -> bool:
        """Whether no message is ready or leased."""
        return not any([any((await self.stats(topic))[:2]) for topic in self._seen])

    async def idle(self) -> bool:
        """Whether no message is ready, leased or delayed. If all messages are delayed, skip the shortest delay."""
        ready, leased, delayed, _ = map(sum, zip(*[await self.stats(topic) for topic in self._seen], strict=True))
        if delayed and not ready and not leased:
            due = min(self._space.topic(topic).next_due() for topic in self._seen)
            self._advancing.advance(due - self._advancing.monotonic())
        return not (ready or leased or delayed)


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
        idle = await queue.idle()  # read this before the value: a value is written before its message is acknowledged
        try:
            result = await app.read(known)(*args, **kwargs)
            if await queue.quiet():  # sent calls run to their end too
                return result
        except NotFoundError:
            if idle:
                raise CycleError(
                    "no message is left, but the call has no value: its calls wait for each other",
                    remedy="Look for a call that leads back to itself with the same arguments.",
                ) from None
        await asyncio.sleep(POLL)
