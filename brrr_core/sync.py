"""A synchronous client for Django, Flask and scripts: `AppConsumer` on an event loop in a separate thread."""

import asyncio
import atexit
import inspect
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from threading import RLock, Thread
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeAlias, TypeVar
from weakref import finalize

from brrr_core.app import events, letters, serving
from brrr_core.app.consumer import AppConsumer
from brrr_core.app.tasks import Task
from brrr_core.codec import Codec
from brrr_core.engine.policy import Policy
from brrr_core.errors import BackendClosedError, BlockingCallError, ForkedError
from brrr_core.plugins import load_codec, resolve_roles

__all__ = ["Client", "Event", "LetterSelection", "connect"]

Q = ParamSpec("Q")
P = ParamSpec("P")
T = TypeVar("T")
ValueT = TypeVar("ValueT")

EXIT_LIMIT: Final = 5.0
"""The most seconds for which the end of the program waits until a client is closed."""

Opened: TypeAlias = Callable[[], AbstractAsyncContextManager[AppConsumer]]


def connect(
    queue: str | None = None,
    store: str | None = None,
    cache: str | None = None,
    *,
    codec: str | Codec = "json",
    handlers: Mapping[str, Task] | None = None,
    policy: Policy | None = None,
) -> "Client":
    """Return a client for synchronous code: `client = brrr.sync.connect("sqlite:///brrr.db")`.

    The URLs are checked immediately. The first call opens the backends, and raises the error if that fails.

    Args:
        queue: A URL; by default the environment variable BRRR_QUEUE.
        store: A URL; by default BRRR_STORE, or else that of the queue.
        cache: A URL; by default BRRR_CACHE, or else that of the queue, or else of the store.
        codec: A codec or the name of one; the workers must use the same.
        handlers: Handlers by task name. You need them only for tasks whose name is not the function's name.
        policy: Limits, such as the spawn limit.

    Raises:
        UrlError: A URL is not valid, or none is given.
        OptionError: An option of a URL is wrong.
        PluginError: A plugin or the codec is missing or broken, or a backend does not offer the role.
    """
    resolve_roles(queue, store, cache)
    codec = load_codec(codec)

    @asynccontextmanager
    async def opened() -> AsyncGenerator[AppConsumer, None]:
        async with serving.connect(queue, store, cache, policy=policy) as connection:
            yield AppConsumer(codec=codec, connection=connection, handlers=handlers)

    return Client(opened)


def _blocking(
    method: Callable[Concatenate[AppConsumer, Q], Callable[P, Coroutine[Any, Any, T]]],
) -> "Callable[Concatenate[Client, Q], Callable[P, T]]":
    """Return a method of `AppConsumer` as a method of `Client`, with the same parameters and without `await`."""

    def prepared(self: "Client", /, *args: Q.args, **kwargs: Q.kwargs) -> Callable[P, T]:
        def call(*call_args: P.args, **call_kwargs: P.kwargs) -> T:
            return self.wait(lambda app: method(app, *args, **kwargs)(*call_args, **call_kwargs))

        return call

    _describe(prepared, method)
    return prepared


def _blocking_at_once(
    method: Callable[Concatenate[AppConsumer, P], Coroutine[Any, Any, T]],
) -> "Callable[Concatenate[Client, P], T]":
    """Return a method that takes no arguments of a call, without `await`."""

    def call(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.wait(lambda app: method(app, *args, **kwargs))

    _describe(call, method)
    return call


def _blocking_with_value(
    method: Callable[Concatenate[AppConsumer, Q], Callable[P, Callable[[ValueT], Coroutine[Any, Any, T]]]],
) -> "Callable[Concatenate[Client, Q], Callable[P, Callable[[ValueT], T]]]":
    """Return a method that takes the value of a call after its arguments, without `await`."""

    def prepared(self: "Client", /, *args: Q.args, **kwargs: Q.kwargs) -> Callable[P, Callable[[ValueT], T]]:
        def of_call(*call_args: P.args, **call_kwargs: P.kwargs) -> Callable[[ValueT], T]:
            return lambda value: self.wait(lambda app: method(app, *args, **kwargs)(*call_args, **call_kwargs)(value))

        return of_call

    _describe(prepared, method)
    return prepared


def _blocking_on_event(
    method: Callable[Concatenate[events.Event, P], Coroutine[Any, Any, T]],
) -> "Callable[Concatenate[Event, P], T]":
    """Return a method of an event without `await`."""

    def call(self: "Event", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.client.wait(lambda app: method(app.event(self.name, *self.args), *args, **kwargs))

    _describe(call, method)
    return call


def _choosing(
    method: Callable[Concatenate[AppConsumer, P], letters.LetterSelection],
) -> "Callable[Concatenate[Client, P], LetterSelection]":
    """Return the method that chooses dead letters, without `await`. The first use of the result raises the errors."""

    def call(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> "LetterSelection":
        return LetterSelection(self, lambda app: method(app, *args, **kwargs))

    _describe(call, method)
    return call


def _blocking_on_letters(
    method: Callable[Concatenate[letters.LetterSelection, P], Coroutine[Any, Any, T]],
) -> "Callable[Concatenate[LetterSelection, P], T]":
    """Return a method of the async selection as one without `await`."""

    def call(self: "LetterSelection", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.client.wait(lambda app: method(self.chosen(app), *args, **kwargs))

    _describe(call, method)
    return call


def _describe(blocking: Any, method: Callable[..., Any]) -> None:
    """Give a method of `Client` or `Event` the name, parameters and docstring of the async method."""
    name = method.__qualname__.replace(AppConsumer.__name__, "Client")
    blocking.__name__, blocking.__qualname__ = method.__name__, name
    blocking.__doc__ = (method.__doc__ or "").replace("await app.", "client.").replace("await client.", "client.")
    blocking.__signature__ = inspect.signature(method).replace(return_annotation=inspect.Signature.empty)


class Client:
    """Schedules calls and reads their results without `await`. `connect` makes it.

    Any number of threads may use one client. It opens its backends at the first call, in its own thread, and is
    closed by `close`, at the end of `with`, or when the program ends. A process that forks must not have used its
    client before: each child opens the backends for itself.

    Every method also raises:
        BlockingCallError: An event loop runs in this thread.
        BackendClosedError: The client was closed, before or during the call.
        ForkedError: The client was used in another process before this one was forked.
    """

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._changing = RLock()  # of a kind that does not block a signal handler that uses the client
        self._closed = False
        self._threads: list[_LoopThread] = []  # none or one; the finalizer needs it without the client
        finalize(self, _stop, self._threads).atexit = False

    schedule = _blocking(AppConsumer.schedule)
    """Schedule a call for the workers of a topic: `client.schedule(fib, topic="demo")(11)`."""

    read = _blocking(AppConsumer.read)
    """Return the result of a call without waiting: `client.read(fib)(11)`."""

    result = _blocking(AppConsumer.result)
    """Wait for the result of a call, and return it: `client.result(fib, timeout=30)(11)`."""

    explain = _blocking(AppConsumer.explain)
    """Explain the state of a call and of all calls below it: `client.explain(order)(11)`. It needs brrr-explain."""
    status = _blocking(AppConsumer.status)
    """Return the status of a call without waiting: `client.status(fib)(11)`."""

    status_of = _blocking_at_once(AppConsumer.status_of)
    """Return the status of a call by its hash: `client.status_of(call_hash)`."""

    dead_letters = _choosing(AppConsumer.dead_letters)
    """Choose dead letters of a topic: `client.dead_letters("demo", task=fib, limit=100).read()`."""

    forget = _blocking(AppConsumer.forget)
    """Delete a call and its outcome, and with `tree=True` all calls below it: `client.forget(order)(11)`."""

    cancel = _blocking(AppConsumer.cancel)
    """Ask for the cancellation of a call: `client.cancel(order, topic="demo")(11)`."""

    retry = _blocking(AppConsumer.retry)
    """Run a call that failed or was cancelled once more: `client.retry(order, topic="demo")(11)`."""

    cancel_schedule = _blocking_at_once(AppConsumer.cancel_schedule)
    """Stop all calls of one schedule that no other schedule needs: `client.cancel_schedule(scheduled)`."""

    resume_schedule = _blocking_at_once(AppConsumer.resume_schedule)
    """Undo `cancel_schedule`."""

    complete = _blocking_with_value(AppConsumer.complete)
    """Give a call its result by hand: `client.complete(fib)(11)(89)`."""

    def event(self, name: str, *args: object) -> "Event":
        """Return an event, to complete it: `client.event("approval", order_id).complete(True)`.

        Args:
            name: The name of the event.
            args: The arguments with which handlers wait for it.
        """
        return Event(self, name, args)

    def wait(self, begin: Callable[[AppConsumer], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine of the async client, and return its result.

        Args:
            begin: Returns the coroutine, which runs on the event loop of the client.
        """
        return self._running().wait(begin)

    def close(self) -> None:
        """Close the backends. Calls that still wait raise `BackendClosedError`. Closing twice is safe.

        Do not call it in a signal handler.
        """
        self._closed = True
        if self._pid() == os.getpid():
            with self._changing:
                threads = list(self._threads)
            for thread in threads:
                thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pid(self) -> int:
        """Return the process that the client belongs to: the first one that uses it."""
        pid: int = vars(self).setdefault("_owner", os.getpid())  # atomic; a child could inherit a lock that is held
        return pid

    def _running(self) -> "_LoopThread":
        _refuse_on_event_loop()
        if self._pid() != os.getpid():
            raise ForkedError(
                f"this client was used in process {self._pid()}, before process {os.getpid()} was forked",
                remedy="Make a client in each process, or use the client only after the fork.",
            )
        with self._changing:
            if self._closed:
                raise _closed_error()
            if not self._threads or self._threads[0].ended:
                self._threads[:] = [_LoopThread(self._opened)]
            return self._threads[0]


class Event:
    """An event of the outside world, which handlers await with `app.event`. It happens once. `Client.event` returns it.

    Attributes:
        client: The client.
        name: The name of the event.
        args: The arguments that identify it.
    """

    def __init__(self, client: Client, name: str, args: tuple[object, ...]) -> None:
        self.client = client
        self.name = name
        self.args = args

    complete = _blocking_on_event(events.Event.complete)
    """Give the event its value, and wake the handlers that wait for it."""

    fail = _blocking_on_event(events.Event.fail)
    """Let the event fail: handlers that wait for it get a `CallFailedError`."""

    read = _blocking_on_event(events.Event.read)
    """Return the value of the event without waiting."""


class LetterSelection:
    """A choice of dead letters of one topic. `Client.dead_letters` returns it.

    Attributes:
        client: The client.
        chosen: Returns the same selection of the async client.
    """

    def __init__(self, client: Client, chosen: Callable[[AppConsumer], letters.LetterSelection]) -> None:
        self.client = client
        self.chosen = chosen

    read = _blocking_on_letters(letters.LetterSelection.read)
    """Return the dead letters."""

    redrive = _blocking_on_letters(letters.LetterSelection.redrive)
    """Put the dead letters back on their topic as new messages. Return their number."""

    drop = _blocking_on_letters(letters.LetterSelection.drop)
    """Delete the dead letters for good. Return their number."""

    complete = _blocking_on_letters(letters.LetterSelection.complete)
    """Give the calls of the dead letters a result by hand, and drop the dead letters."""

    fail = _blocking_on_letters(letters.LetterSelection.fail)
    """Let the calls of the dead letters fail for good, and drop the dead letters."""


class _LoopThread:
    """A thread with an event loop, on which an application is open.

    Attributes:
        ended: Whether it was closed, could not be opened, or broke.
    """

    def __init__(self, opened: Opened) -> None:
        self.ended = False
        self._pid = os.getpid()
        self._ending = RLock()
        self._stopping: Future[None] = Future()
        self._opened: Future[tuple[asyncio.AbstractEventLoop, AppConsumer]] = Future()
        self._over: Future[None] = Future()
        self._waits: set[Future[Any]] = set()
        Thread(target=self._run, args=(opened,), name="brrr.sync", daemon=True).start()

    def wait(self, begin: Callable[[AppConsumer], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the event loop, and return its result. If this thread is interrupted, cancel it."""
        loop, app = self._opened.result()
        future: Future[T] | None = None
        try:
            with self._ending:  # each wait begins before the end, or not at all
                if self.ended:
                    raise _closed_error()
                future = asyncio.run_coroutine_threadsafe(begin(app), loop)
                self._waits.add(future)
            return future.result()
        except CancelledError:
            raise _closed_error() from None
        finally:
            if future is not None:
                future.cancel()
                self._waits.discard(future)
                del future  # it keeps the error, whose traceback holds this frame

    def close(self) -> None:
        """Close the application, and wait for that. Raise the error if closing fails."""
        self.stop()
        self._over.result()

    def stop(self) -> None:
        """Begin to close, without waiting."""
        if os.getpid() == self._pid and not self.ended:
            self._stopping.cancel()

    def _exit(self) -> None:
        if os.getpid() == self._pid:
            self.stop()
            with suppress(Exception):
                self._over.result(EXIT_LIMIT)

    def _run(self, opened: Opened) -> None:
        atexit.register(self._exit)
        failure: BaseException | None = None
        try:
            asyncio.run(self._serve(opened))
        except asyncio.CancelledError:
            pass  # it was stopped
        except BaseException as error:  # noqa: BLE001 - its callers raise it
            failure = error
        try:
            self._end_waits()
            atexit.unregister(self._exit)
            if not self._opened.done():
                self._opened.set_exception(failure or _closed_error())
                failure = None
            if failure is None:
                self._over.set_result(None)
            else:
                self._over.set_exception(failure)
        finally:
            del failure  # its traceback holds this frame

    async def _serve(self, opened: Opened) -> None:
        main = asyncio.current_task()
        assert main is not None  # noqa: S101 - this is one
        asyncio.wrap_future(self._stopping).add_done_callback(lambda _: main.cancel())
        async with opened() as app:
            self._opened.set_result((asyncio.get_running_loop(), app))
            try:
                await asyncio.Event().wait()
            finally:
                self._end_waits()  # before the backends close

    def _end_waits(self) -> None:
        with self._ending:
            self.ended = True
            for future in tuple(self._waits):  # their threads discard them meanwhile
                future.cancel()


def _stop(threads: list[_LoopThread]) -> None:
    for thread in threads:
        thread.stop()


def _refuse_on_event_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise BlockingCallError(
        "a call of a synchronous client would block the event loop that runs in this thread",
        remedy="Use `async with brrr.connect(url) as conn` and `brrr.AppConsumer(codec=..., connection=conn)` there, "
        "or call the client in a thread: `await asyncio.to_thread(...)`.",
    )


def _closed_error() -> BackendClosedError:
    return BackendClosedError("this client was closed", remedy="Make a new one with `brrr.sync.connect`.")
