"""Addresses behind which no backend answers: closed ports of this machine, and a server that says nothing."""

import re
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from brrr_core.backend import Backend
from brrr_core.contract.context import NotApplicableError
from brrr_core.contract.target import Target
from brrr_core.errors import OptionError, UrlError
from brrr_core.plugins import open_backend, parse_url

__all__ = ["at_address", "backend_at", "closed_port", "silent_server", "unreachable"]

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
        return url, open_backend(url)
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
