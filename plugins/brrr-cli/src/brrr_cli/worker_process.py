"""One worker process: loops on topics until a stop request. The first request is graceful, the second immediate."""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from brrr_cli.errors import ExitCode, signal_exit_code
from brrr_cli.json_logs import with_fields
from brrr_cli.logs import LOG, EveryCallLog, WorkerLog
from brrr_cli.options import Urls
from brrr_cli.secrets import Secrets
from brrr_core import AppWorker, Policy, RecurringSchedule, Task, serve
from brrr_core.app.worker import LifespanFunction
from brrr_core.engine.termination import STOP_SIGNALS, add_handler, remove_handler
from brrr_core.errors import NotInstalledError

__all__ = ["LogStyle", "LoopName", "Stop", "Work", "leave", "run_on_loop", "run_worker"]

LoopName: TypeAlias = Literal["auto", "asyncio", "uvloop"]
"""An event loop. "auto" is uvloop if it is installed, and asyncio's own loop otherwise."""

LogStyle: TypeAlias = Literal["text", "json"]
"""The form of each line of the log."""

THREADS_TIMEOUT: Final = 1.0
"""Seconds to wait for the threads of idle executors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The work of a worker process. Each topic has its concurrency. The first topic has the schedules."""

    handlers: Mapping[str, Task]
    topics: Mapping[str, int]
    urls: Urls
    codec: str
    policy: Policy
    schedules: Sequence[RecurringSchedule] = ()
    hooks: Sequence[object] = ()
    lifespan: LifespanFunction | None = None
    verbose: bool = False
    log: LogStyle = "text"


class Stop:
    """Listens for stop requests: signals, and bytes from a supervisor on the standard input.

    A supervisor relays a signal as a byte, the signal's number, and as SIGTERM. A service manager may send the same
    signal to all processes, so that a process receives it twice. Therefore relayed and other signals are counted
    separately, and the larger count is the number of stop requests.

    Attributes:
        requested: Whether the first request arrived, or the supervisor ended.
        signal: The second signal, which ended the process immediately, if there was one.
        work: Stops the loops, when they run. Before that, the first request ends the process.
    """

    def __init__(self) -> None:
        self.requested = False
        self.signal: int | None = None
        self.work: Callable[[], None] | None = None
        self._signals = 0
        self._relayed = 0
        self._supervised = False
        self._loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()

    @contextmanager
    def listening(self, *, supervised: bool = False) -> Generator[None, None, None]:
        """Listen for SIGTERM and SIGINT; if supervised, also on the standard input."""
        for number in STOP_SIGNALS:  # on Windows, Ctrl-C cancels the main task instead, which is graceful too
            add_handler(number, self._on_signal, number)
        self._supervised = supervised
        if supervised:
            os.set_blocking(sys.stdin.fileno(), False)
            self._loop.add_reader(sys.stdin.fileno(), self._on_input)
        try:
            yield
        finally:
            for number in STOP_SIGNALS:
                remove_handler(number)
            self._ignore_input()

    def _on_signal(self, number: int) -> None:
        self._signals += 1
        self._on_input()  # the byte of a relayed signal arrives before the signal
        self._heed(max(self._relayed, self._signals - self._relayed), number)

    def _on_input(self) -> None:
        if not self._supervised:
            return
        try:
            received = os.read(sys.stdin.fileno(), 64)
        except BlockingIOError:
            return
        except OSError:  # the supervisor was killed, and the pipe has unread data
            received = b""
        if received:
            self._relayed += len(received)
            self._heed(self._relayed, received[-1])
            return
        self._ignore_input()
        if not self.requested:
            LOG.info("stopping, because the supervisor has ended")
            self._ask()

    def _heed(self, times: int, number: int) -> None:
        if not self.requested:
            LOG.info("stopping; a second signal ends what still runs")
            self._ask()
        if times >= 2:
            self.signal = number
            self._cancel()

    def _ask(self) -> None:
        self.requested = True
        if self.work is not None:
            self.work()
        else:
            self._cancel()

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _ignore_input(self) -> None:
        if self._supervised:
            self._supervised = False
            self._loop.remove_reader(sys.stdin.fileno())


async def run_worker(work: Work, *, supervised: bool = False) -> int:
    """Work until a stop request.

    Args:
        work: The handlers, topics and settings.
        supervised: Whether a supervisor sends stop requests on the standard input. Its end is a request too.

    Returns:
        0 after a graceful stop, 128 plus the signal's number after an immediate one.

    Raises:
        BrrrError: The lifespan failed, or a backend cannot be opened, or did not answer for longer than the policy's
            `unavailable_timeout`.
    """
    stop = Stop()
    with stop.listening(supervised=supervised):
        try:
            await _work(work, stop)
        except asyncio.CancelledError:
            if stop.signal is not None:
                return signal_exit_code(stop.signal)
            if not stop.requested:
                raise
    return ExitCode.OK


async def _work(work: Work, stop: Stop) -> None:
    urls = work.urls
    mask = Secrets([each for each in (urls.queue, urls.store, urls.cache) if each]).mask
    log = EveryCallLog(tracebacks=True, mask=mask) if work.verbose else WorkerLog(mask=mask)
    shown = with_fields(log) if work.log == "json" else log
    async with (
        serve(
            urls.queue,
            urls.store,
            urls.cache,
            policy=work.policy,
            hooks=[shown, *work.hooks],
        ) as connection,
        AppWorker(handlers=work.handlers, codec=work.codec, connection=connection, lifespan=work.lifespan) as app,
    ):
        stop.work = connection.stop
        async with asyncio.TaskGroup() as group:
            schedules = work.schedules
            for topic, concurrency in work.topics.items():
                loop = connection.loop(topic, app.handle, concurrency=concurrency, schedules=schedules)
                group.create_task(loop)
                schedules = ()


def run_on_loop(running: Coroutine[Any, Any, int], name: LoopName) -> int:
    """Run the coroutine of a program on an event loop, and return its exit code.

    Raises:
        NotInstalledError: uvloop is not installed.
    """
    factory = None if name == "asyncio" else _uvloop()
    if factory is None and name == "uvloop":
        running.close()
        raise NotInstalledError("uvloop is not installed", remedy='Install it: pip install "brrr-cli[uvloop]".')
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(running)


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # an extra
    except ImportError:
        return None
    return uvloop.new_event_loop


def leave(code: int) -> int:
    """Return the exit code of a worker process, or end the process immediately if a thread still runs a handler.

    Python waits for threads before it exits, and a sync handler may run forever. Its message is already back on its
    topic.
    """
    deadline = time.monotonic() + THREADS_TIMEOUT
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                logging.shutdown()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
    return code
