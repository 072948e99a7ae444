"""One worker process: loops on its topics until it is told to stop, once gracefully and twice at once."""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from brrr_core.app.handlers import Task
from brrr_core.app.serving import serve
from brrr_core.app.worker import AppWorker
from brrr_core.cli.exits import ExitCode, killed_by
from brrr_core.cli.logs import LOG, EveryCallLog, WorkerLog
from brrr_core.cli.options import Urls
from brrr_core.engine.connection import Connection
from brrr_core.engine.policy import Policy

__all__ = ["STOP_SIGNALS", "Stop", "Work", "leave", "run_worker"]

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
THREADS_LEFT: Final = 1.0
"""Seconds that threads of idle executors may take to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a worker process does."""

    handlers: Mapping[str, Task]
    topics: Sequence[str]
    urls: Urls
    codec: str
    policy: Policy
    concurrency: int
    verbose: bool = False


class Stop:
    """Listens for what tells a process to stop.

    Attributes:
        asked: Set by the first signal, or by the end of the supervisor.
        signal: The signal that ended it at once, if one did: the second.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.signal: int | None = None
        self._loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()

    @contextmanager
    def listening(self, *, supervised: bool = False) -> Generator[None, None, None]:
        """Listen for SIGTERM and SIGINT; if supervised, for the end of the standard input as well."""
        with suppress(NotImplementedError):  # Windows: Ctrl-C cancels the main task, which is graceful too
            for number in STOP_SIGNALS:
                self._loop.add_signal_handler(number, self._on_signal, number)
            if supervised:  # nothing is ever written to it
                self._loop.add_reader(sys.stdin.fileno(), self._on_end_of_input)
        try:
            yield
        finally:
            self._ignore_signals()
            if supervised:
                self._ignore_input()

    def _on_signal(self, number: int) -> None:
        if not self.asked.is_set():
            LOG.info("stopping; a second signal ends what still runs")
            self.asked.set()
            return
        self.signal = number
        self._ignore_signals()  # a third one kills
        if self._main is not None:
            self._main.cancel()

    def _on_end_of_input(self) -> None:
        self._ignore_input()
        if not self.asked.is_set():
            LOG.info("stopping, as the process above is gone")
            self.asked.set()

    def _ignore_signals(self) -> None:
        with suppress(NotImplementedError):
            for number in STOP_SIGNALS:
                self._loop.remove_signal_handler(number)

    def _ignore_input(self) -> None:
        with suppress(NotImplementedError):
            self._loop.remove_reader(sys.stdin.fileno())


async def run_worker(work: Work, *, supervised: bool = False) -> int:
    """Work until told to stop.

    Args:
        work: What to do.
        supervised: Whether the end of the standard input, by which a supervisor's death shows, is to stop it too.

    Returns:
        0 after a graceful stop, 128 and the signal's number after one at once.

    Raises:
        BrrrError: A backend cannot be opened, or has not answered for longer than the policy's patience.
    """
    stop = Stop()
    with stop.listening(supervised=supervised):
        try:
            await _work(work, stop)
        except asyncio.CancelledError:
            if stop.signal is None:
                raise
            return killed_by(stop.signal)
    return ExitCode.OK


async def _work(work: Work, stop: Stop) -> None:
    log = EveryCallLog(tracebacks=True) if work.verbose else WorkerLog()
    urls = work.urls
    async with serve(urls.queue, urls.store, urls.cache, policy=work.policy, hooks=[log]) as connection:
        app = AppWorker(handlers=work.handlers, codec=work.codec, connection=connection)
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(connection.loop(topic, app.handle, concurrency=work.concurrency))
                for topic in work.topics
            ]
            # After the loops, so that they have begun when they are stopped.
            stopper = group.create_task(_stop(connection, stop))
            await asyncio.wait(loops)
            stopper.cancel()


async def _stop(connection: Connection, stop: Stop) -> None:
    await stop.asked.wait()
    connection.stop()


def leave(code: int) -> int:
    """The exit code of a worker process, once no thread of it runs a handler; else the process ends here and now.

    Python waits at its end for threads, and a sync handler that outlived the grace may run for ever. Its message is on
    its topic again.
    """
    deadline = time.monotonic() + THREADS_LEFT
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                logging.shutdown()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
    return code
