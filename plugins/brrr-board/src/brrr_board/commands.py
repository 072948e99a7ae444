"""`brrr board`: serve the board until Ctrl-C or SIGTERM."""

import asyncio
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Final

import uvicorn
from cyclopts import Parameter
from cyclopts.validators import Number

from brrr_board.application import Board
from brrr_board.guard import is_loopback
from brrr_cli.api import NO_URLS, CodecName, HandlersOption, Urls, Verbose, load_handlers, note, write_line
from brrr_core import connect
from brrr_core.errors import CommandError

__all__ = ["board"]

CONNECTIONS: Final = 100
"""The most concurrent connections. A request on a further connection gets the status 503."""


async def board(
    *,
    topic: Annotated[
        tuple[str, ...],
        Parameter(
            name="--topic",
            negative=(),
            help="A topic to show, in addition to those that the queue lists. Repeat it for each topic.",
        ),
    ] = (),
    handlers: HandlersOption = None,
    codec: CodecName = "json",
    host: Annotated[str, Parameter(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535), help="The port; 0 means any.")] = 8090,
    allow_changes: Annotated[
        bool,
        Parameter(negative=(), show_default=False, help="Let visitors redrive, drop and complete dead letters."),
    ] = False,
    allow_host: Annotated[
        tuple[str, ...],
        Parameter(
            negative=(), help="A name by which browsers of other machines reach the board. Repeat it for each name."
        ),
    ] = (),
    urls: Urls = NO_URLS,
    verbose: Verbose = False,
) -> None:
    """Show topics, dead letters and calls in a browser, until Ctrl-C.

    By default it changes nothing, and answers only this machine. It has no login. With --handlers, the page of a call
    shows the graph below it: functions with @brrr.handler(replay=True) run, as for `brrr explain`.
    """
    del verbose  # `report` reads it from the command line
    if not is_loopback(host) and not allow_host:
        raise CommandError(
            f"other machines can reach {host}, and the board has no login",
            remedy="Listen on 127.0.0.1, or add --allow-host with the name that browsers use.",
        )
    tasks = {} if handlers is None else load_handlers(handlers)
    async with connect(urls.queue, urls.store, urls.cache) as connection:
        opened = Board(
            connection,
            handlers=tasks,
            codec=codec,
            topics=topic,
            allow_changes=allow_changes,
            hosts=allow_host,
        )
        with _listen(host, port) as listening:
            shown = f"[{host}]" if ":" in host else host
            write_line(f"The board is at http://{shown}:{listening.getsockname()[1]}/ until Ctrl-C")
            if allow_host:
                rights = "see all arguments and results" + (", and change dead letters" if allow_changes else "")
                note(f"warning: the board has no login. Everyone who can reach it can {rights}.")
            async with opened:
                await _serve(opened, listening)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise CommandError(
            f"cannot listen on {host}:{port}: {os.strerror(error.errno) if error.errno else error}",
            remedy="Name another --port or --host.",
        ) from error


async def _serve(opened: Board, listening: socket.socket) -> None:
    """Serve until cancelled. Requests have five seconds to end; streams end immediately."""
    config = uvicorn.Config(
        opened,
        limit_concurrency=CONNECTIONS,
        log_config=None,
        access_log=False,
        lifespan="off",
        proxy_headers=False,  # the guard checks the address of the connection itself
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve([listening]))
    try:
        await asyncio.shield(serving)
    finally:
        opened.stop()
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    """Uvicorn's server without its signal handling: the command line cancels the command."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Handle no signals."""
        yield
