"""Addresses behind which no backend answers: closed ports of this machine, and a server that says nothing."""

import re
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from brrr_core.contract.context import NotApplicableError
from brrr_core.contract.target import Target
from brrr_core.plugins import parse_url

__all__ = ["at_address", "closed_port", "silent_server", "unreachable"]

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


@contextmanager
def unreachable(target: Target) -> Generator[str]:
    """A URL of the target's scheme behind which nothing answers.

    Raises:
        NotApplicableError: The author names none, and the target's URL has no host that could be another.
    """
    if target.unreachable_url is not None:
        yield target.unreachable_url
    elif target.url is not None and parse_url(target.url).url.hosts:
        with closed_port() as address:
            yield at_address(target.url, address)
    else:
        raise NotApplicableError("the URL has no host, and no `unreachable_url` is given")
