"""The connection options of nats-py that a program may give, and the ones that brrr-nats sets itself."""

import ssl
from collections import UserString
from collections.abc import Awaitable, Callable, Sequence
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Final, TypeAlias, TypedDict
from urllib.parse import urlsplit

from brrr_core.errors import OptionError
from brrr_nats.options import NatsOptions

__all__ = ["EVENTS", "ConnectOptions", "check_connect_options", "servers_of"]

Text: TypeAlias = str | Callable[[], str]
Event: TypeAlias = Callable[[], Awaitable[None]]


class ConnectOptions(TypedDict, total=False):
    """Options of `nats.connect`, with its names and meanings.

    The callbacks are called for every connection: brrr-nats opens a new one whenever one is lost. If a TLS context is
    given, TLS is used if the server requires it, as nats-py does.
    """

    servers: str | Sequence[str]
    name: str
    user: Text
    password: Text
    token: Text
    user_credentials: str | tuple[str, str] | UserString | Path
    nkeys_seed: str
    nkeys_seed_str: str
    signature_cb: Callable[[str], bytes]
    user_jwt_cb: Callable[[], bytes | bytearray]
    tls: ssl.SSLContext
    tls_hostname: str
    tls_handshake_first: bool
    error_cb: Callable[[Exception], Awaitable[None]]
    disconnected_cb: Event
    closed_cb: Event
    discovered_server_cb: Event
    lame_duck_mode_cb: Event
    pedantic: bool


LOGIN: Final = {
    *("user", "password", "token", "user_credentials"),
    *("nkeys_seed", "nkeys_seed_str", "signature_cb", "user_jwt_cb"),
}
EVENTS: Final = {"error_cb", "disconnected_cb", "closed_cb", "discovered_server_cb", "lame_duck_mode_cb"}
TLS: Final = {"tls", "tls_hostname", "tls_handshake_first"}

INSTEAD: Final = {
    "inbox_prefix": "Use the option inbox.",
    "connect_timeout": "Use the option of that name.",
    **dict.fromkeys(("ping_interval", "max_outstanding_pings"), "Use the option timeout."),
    **dict.fromkeys(
        ("allow_reconnect", "max_reconnect_attempts", "reconnect_time_wait", "reconnected_cb", "dont_randomize"),
        "brrr-nats opens a new connection whenever one is lost: use the option retry_for, and disconnected_cb.",
    ),
}
SET_BY_BRRR: Final = "Leave it out: brrr-nats sets it, or does not use it."


def check_connect_options(given: ConnectOptions, options: NatsOptions, *, hosts: bool, login: bool) -> None:
    """Check nats-py's options against the URL and the options of brrr-nats.

    Args:
        given: nats-py's options.
        options: The options of brrr-nats.
        hosts: Whether the URL names servers.
        login: Whether the URL or the options have a login.

    Raises:
        OptionError: An option is unknown, is set by brrr-nats, or is given in two places.
    """
    for name, value in given.items():
        if name not in ConnectOptions.__annotations__:
            raise OptionError(f"connect_options has {name}", remedy=INSTEAD.get(name, SET_BY_BRRR))
        if name in EVENTS and not iscoroutinefunction(value):
            raise OptionError(f"{name} of connect_options is not a coroutine function", remedy="Write async def.")
    ours = [name for name in ("tls", "tls_first", "ca", "cert", "key") if getattr(options, name)]
    for mine, clashes, instead in (
        ({"servers"}, hosts, "the hosts of the URL"),
        (LOGIN, login, "a login in the URL, the servers or the options"),
        (TLS, bool(ours) or not options.verify, "options for TLS"),
    ):
        both = ", ".join(sorted(mine & given.keys()))
        if both and clashes:
            raise OptionError(f"connect_options has {both} beside {instead}", remedy="Give only one of them.")
    for server in servers_of(given):
        if urlsplit(server).scheme not in {"nats", "tls"}:
            raise OptionError("a server of connect_options has no nats or tls URL", remedy="Write nats://HOST:PORT.")


def servers_of(given: ConnectOptions) -> list[str]:
    """Return the servers as URLs."""
    servers = given.get("servers", ())
    listed = [servers] if isinstance(servers, str) else list(servers)
    return [each if "://" in each else f"nats://{each}" for each in listed]
