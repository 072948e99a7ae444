"""Addresses behind which no backend answers: closed ports of this machine, and a server that says nothing."""

import asyncio
import re
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, Self

from brrr_core.backend import Backend
from brrr_core.contract.context import NotApplicableError
from brrr_core.contract.target import Target
from brrr_core.errors import OptionError, UrlError
from brrr_core.plugins import open_backend, parse_url

__all__ = ["Late", "at_address", "backend_at", "closed_port", "impatient", "silent_server", "unreachable"]

PLACE: Final = re.compile(r"^([^:]+://)(?:[^/?@]*@)?[^/?]*")


@contextmanager
def closed_port() -> Generator[str]:
    """`host:port` of this machine, where nobody listens: the port stays taken meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def silent_server() -> Generator[str]:
    """`host:port` of this machine, where connections are taken, and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def impatient(backend: Backend) -> Backend:
    """The backend, which tries once to open: most rules do not wait for a server that does not come."""
    backend.retry_for = 0
    return backend


class Late:
    """`host:port` of this machine where nobody listens at first, and the target's server answers after `listen`."""

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
        """Where."""
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    async def listen(self) -> None:
        """Answer from now on."""
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
            pass  # who was connected notices
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
    """The URL, with another host and login."""
    return PLACE.sub(lambda match: f"{match[1]}{login}{address}", url, count=1)


def backend_at(target: Target, address: str) -> tuple[str, Backend]:
    """The target's URL with another host, and the backend behind it, not open.

    Raises:
        NotApplicableError: The URL has no host; or its host is no server, and the server is named by something else.
    """
    if target.url is None or not parse_url(target.url).url.hosts:
        raise NotApplicableError("the URL has no host")
    url = at_address(target.url, address)
    try:
        return url, impatient(open_backend(url))
    except (UrlError, OptionError) as error:
        raise NotApplicableError(f"the URL's host cannot be another: {error.what}") from error


@contextmanager
def unreachable(target: Target) -> Generator[str]:
    """A URL of the target's scheme behind which nothing answers.

    Raises:
        NotApplicableError: The author names none, and the target's URL has no host that could be another.
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
