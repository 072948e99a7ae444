"""Start the demo: `python -m examples.demo`. An HTTP front and a worker in one process, until Ctrl-C or SIGTERM."""

import argparse
import asyncio
import logging
import os
import queue
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

import brrr_core as brrr
from brrr_board import Board
from brrr_core.backend import mask_url
from brrr_core.hooks import BackendFailed, CallFailed
from examples.demo.front import LOCAL_HOSTS, make_front
from examples.demo.handlers import HANDLERS

TOPIC: Final = "demo"
URL: Final = "sqlite:///brrr-demo.db"
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
REQUEST_TIMEOUT: Final = 10.0
"""Seconds that a client has to send a request."""

CONNECTIONS: Final = 200
"""The most connections at a time. A request on a further connection gets the status 503."""

LOG: Final = logging.getLogger("brrr.demo")


class Settings(NamedTuple):
    """Settings from the command line and the environment."""

    host: str
    port: int
    url: str
    allow_host: list[str]


class BoundedProtocol(H11Protocol):
    """Closes a connection that sends no complete request head within `REQUEST_TIMEOUT` seconds."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in its base
        """Start the timeout."""
        super().connection_made(transport)
        self._bound = self.loop.call_later(REQUEST_TIMEOUT, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timeout."""
        self._bound.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Restart the timeout."""
        self._bound.cancel()
        self._bound = self.loop.call_later(REQUEST_TIMEOUT, self._check)
        super().on_response_complete()

    def _check(self) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self.transport.close()


class Server(uvicorn.Server):
    """Uvicorn's server without its signal handling: the demo stops the server and the worker together."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle no signals."""
        yield


class FailureLog:
    """A hook plugin that logs the failures of the worker."""

    @brrr.hookimpl
    def brrr_call_failed(self, event: CallFailed) -> None:
        """Log a failed call."""
        end = "for good" if event.final else "dead-lettered"
        next_step = end if event.retry_in is None else f"again in {event.retry_in:.1f} s"
        LOG.warning("%s failed (%s): %r", event.task_name, next_step, event.error)

    @brrr.hookimpl
    def brrr_backend_failed(self, event: BackendFailed) -> None:
        """Log a failed backend operation."""
        LOG.warning("The backend failed: %s", event.error)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo. Return the exit status: 0 if a signal stopped it, 1 if it could not run."""
    settings = parse(arguments)
    try:
        listening = listen(settings.host, settings.port)
    except OSError as error:
        # If an address cannot be looked up, the number is not one of the system's errors.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        print(
            f"Cannot listen on {settings.host}:{settings.port}: {reason}. "
            "Name another port (make demo ARGS='--port 8081') or host.",
            file=sys.stderr,
        )
        return 1
    failed = False
    with listening, logging_in_a_thread():
        try:
            asyncio.run(run(settings, listening))
        except* brrr.BrrrError as group:
            print(*group.exceptions, sep="\n", file=sys.stderr)
            failed = True
    return 1 if failed else 0


def parse(arguments: Sequence[str] | None) -> Settings:
    """Read the settings from the command line, or else from the environment."""
    parser = argparse.ArgumentParser(prog="make demo", description="An HTTP front and a worker over one backend.")
    environ = os.environ
    parser.add_argument("--host", default=environ.get("BRRR_DEMO_HOST", "127.0.0.1"), help="BRRR_DEMO_HOST, 127.0.0.1")
    parser.add_argument(
        "--port", type=port_number, default=environ.get("BRRR_DEMO_PORT", "8080"), help="BRRR_DEMO_PORT, 8080; 0: any"
    )
    parser.add_argument("--url", default=environ.get("BRRR_QUEUE", URL), help=f"the backend: BRRR_QUEUE, {URL}")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="another host name that requests may use"
    )
    return Settings(**vars(parser.parse_args(arguments)))


def port_number(text: str) -> int:
    """Read a TCP port; 0 means any free port. Raises the error that argparse shows."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def listen(host: str, port: int) -> socket.socket:
    """Create a listening socket. Raises `OSError` if the port is in use or the host is not on this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


async def run(settings: Settings, listening: socket.socket) -> None:
    """Serve HTTP and work until a signal. Running handlers may finish within the policy's grace; the rest is released.

    Raises:
        BrrrError: The backend cannot be opened.
        ExceptionGroup: Contains a `BrrrError`: the backend did not answer for the policy's `unavailable_timeout`.
    """
    stop, hurry = asyncio.Event(), asyncio.Event()
    with set_on_signals(stop, hurry):
        async with (
            brrr.serve(settings.url, hooks=[FailureLog()]) as connection,
            open_board(settings, connection) as board,
            asyncio.TaskGroup() as group,
        ):
            app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection)
            hosts = (*LOCAL_HOSTS, settings.host, *settings.allow_host)
            front = make_front(app, HANDLERS, topic=TOPIC, hosts=hosts, board=board)
            server = Server(
                uvicorn.Config(
                    front,
                    http=BoundedProtocol,
                    limit_concurrency=CONNECTIONS,
                    log_config=None,
                    access_log=False,
                    lifespan="off",
                    timeout_graceful_shutdown=5,
                )
            )
            group.create_task(server.serve([listening]))
            worker = group.create_task(connection.loop(TOPIC, app.handle))
            print(usage(settings, listening), flush=True)
            await stop.wait()
            # The server soon closes its connections. The worker may take longer; a second signal ends its grace.
            board.stop()
            server.should_exit = True
            worker.cancel()
            hurried = asyncio.create_task(hurry.wait())
            await asyncio.wait({worker, hurried}, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
            worker.cancel()  # a second cancellation ends the grace; it does nothing to a worker that has ended
        print("Stopped.", flush=True)


def open_board(settings: Settings, connection: brrr.Connection) -> Board:
    """Return the board. Visitors may change dead letters if they can only be on this machine."""
    local = settings.host in LOCAL_HOSTS
    return Board(
        connection,
        handlers=HANDLERS,
        topics=[TOPIC],
        allow_changes=local and not settings.allow_host,
        hosts=[*settings.allow_host, *([] if local else [settings.host])],
    )


@contextmanager
def logging_in_a_thread() -> Iterator[None]:
    """Write warnings to stderr from a thread, so that a slow reader does not block the event loop."""
    lines: queue.SimpleQueue[object] = queue.SimpleQueue()
    handler, root = QueueHandler(lines), logging.getLogger()
    listener = QueueListener(lines, logging.StreamHandler())
    root.addHandler(handler)
    listener.start()
    try:
        yield
    finally:
        listener.stop()
        root.removeHandler(handler)


@contextmanager
def set_on_signals(*events: asyncio.Event) -> Iterator[None]:
    """Let each SIGINT or SIGTERM set the next event. Afterwards the process ignores both signals.

    With the event loop's own handlers, the defaults would return when the loop closes. Then a late signal could change
    the exit status of a clean exit.
    """
    loop = asyncio.get_running_loop()

    def set_next() -> None:
        for event in events:
            if not event.is_set():
                event.set()
                return

    def handle(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(set_next)

    for number in SIGNALS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def usage(settings: Settings, listening: socket.socket) -> str:
    """Return the text that the demo prints when it is ready."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    base = f"http://{host}:{listening.getsockname()[1]}"
    return f"""\
The brrr demo listens on {base}
It works on {mask_url(settings.url)}, seen from {Path.cwd()}

In another terminal:
  curl -X POST '{base}/hello?greetee=John'
  curl '{base}/hello?greetee=John'
  curl -X POST '{base}/calc_and_print?op=fib&n=11'
  curl -X POST '{base}/fib_and_print?n=11'
  curl -X POST '{base}/order?number=7'

The order fails on purpose: look at it, and redrive it, in a browser at {base}/board/
Ctrl-C stops it. A second start finds the earlier results.
"""


if __name__ == "__main__":
    sys.exit(main())
