"""Addresses of failing servers: closed ports of this machine, and servers that are silent or start late."""

import asyncio
import re
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, Self

from brrr_contract_kit.target import Target
from brrr_contract_kit.testbed.context import NotApplicableError
from brrr_core import open_backend
from brrr_core.backend import Backend, parse_url
from brrr_core.errors import OptionError, UrlError

__all__ = ["LateServer", "at_address", "backend_at", "closed_port", "opening_once", "silent_server", "unreachable"]

AUTHORITY: Final = re.compile(r"^([^:]+://)(?:[^/?@]*@)?[^/?]*")


@contextmanager
def closed_port() -> Generator[str]:
    """Yield `host:port` of a port on this machine that is reserved but does not listen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def silent_server() -> Generator[str]:
    """Yield `host:port` of a server on this machine that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def opening_once(backend: Backend) -> Backend:
    """Make the backend try only once to open, so that rules do not wait for a missing server; return it."""
    backend.retry_for = 0
    return backend


class LateServer:
    """A closed port of this machine, behind which the target's server answers after `listen`."""

    def __init__(self, target: Target) -> None:
        hosts = () if target.url is None else parse_url(target.url).url.hosts
        if not hosts or hosts[0][1] is None:
            raise NotApplicableError("the URL has no host with a port")
        self._there = hosts[0]
        self._socket = socket.socket()
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None] | None] = set()

    @property
    def address(self) -> str:
        """The port as `host:port`."""
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    async def listen(self) -> None:
        """Forward connections to the server from now on."""
        self._server = await asyncio.start_server(self._serve, sock=self._socket)

    async def __aenter__(self) -> Self:
        self._socket.bind(("127.0.0.1", 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self._socket.close()
        serving = {task for task in self._serving if task is not None}
        for task in serving:
            task.cancel()
        if serving:
            await asyncio.wait(serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.current_task())
        there: asyncio.StreamWriter | None = None
        try:
            answers, there = await asyncio.open_connection(*self._there)
            async with asyncio.TaskGroup() as group:
                group.create_task(_forward(reader, there))
                group.create_task(_forward(answers, writer))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass  # the client sees that its connection is closed
        finally:
            for each in (writer, there):
                if each is not None:
                    each.transport.abort()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


def at_address(url: str, address: str, *, login: str = "") -> str:
    """Return the URL with another host and login."""
    return AUTHORITY.sub(lambda match: f"{match[1]}{login}{address}", url, count=1)


def backend_at(target: Target, address: str) -> tuple[str, Backend]:
    """Return the target's URL with another host, and a closed backend for it.

    Raises:
        NotApplicableError: The URL has no host, or its host does not name the server.
    """
    if target.url is None or not parse_url(target.url).url.hosts:
        raise NotApplicableError("the URL has no host")
    url = at_address(target.url, address)
    try:
        return url, opening_once(open_backend(url))
    except (UrlError, OptionError) as error:
        raise NotApplicableError(f"the host of the URL cannot be replaced: {error.what}") from error


@contextmanager
def unreachable(target: Target) -> Generator[str]:
    """Yield a URL of the target's scheme behind which no server answers.

    Raises:
        NotApplicableError: The author gives none, and the host of the target's URL cannot be replaced.
    """
    if target.unreachable_url is not None:
        yield target.unreachable_url
        return
    with closed_port() as address:
        try:
            url, _ = backend_at(target, address)
        except NotApplicableError as error:
            raise NotApplicableError(f"{error}, and no `unreachable_url` is given") from error.__cause__
        yield url
