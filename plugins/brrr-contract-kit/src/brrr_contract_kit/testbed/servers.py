"""Addresses of failing servers: closed ports of this machine, and silent servers."""

import re
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from brrr_contract_kit.target import Target
from brrr_contract_kit.testbed.checks import NotApplicableError
from brrr_core import open_backend
from brrr_core.backend import Backend, parse_url
from brrr_core.errors import OptionError, UrlError

__all__ = ["FAIL_GRACES", "at_address", "backend_at", "closed_port", "opening_once", "silent_server", "unreachable"]

FAIL_GRACES: Final = 9
"""Graces within which opening without a server must fail: 45 seconds by default."""

AUTHORITY: Final = re.compile(r"^([^:]+://)((?:[^/?@]*@)?)([^/?]*)")


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


def at_address(url: str, address: str | None = None, *, login: str | None = None) -> str:
    """Return the URL with another host, and with another login; None keeps it."""
    scheme, old_login, old_address = AUTHORITY.findall(url)[0]
    new = f"{scheme}{old_login if login is None else login}{old_address if address is None else address}"
    return AUTHORITY.sub(lambda _: new, url, count=1)


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
