"""The servers, the login and nats-py's options, by the URL and the options."""

from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from brrr_core.backend import BackendUrl, Secret
from brrr_core.errors import OptionError, UrlError
from brrr_nats.connect_options import ConnectOptions, check_connect_options, servers_of
from brrr_nats.options import NatsOptions

__all__ = ["Address", "Location", "location_of"]

DEFAULT_PORT: Final = 4222
LOGINS: Final = ("creds", "nkey_seed_file", "nkey_seed", "token")


class Address(NamedTuple):
    """A server: a host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Location:
    """The servers and the login.

    Attributes:
        addresses: The servers to ask first; they name the others of their cluster.
        username: The user, if there is one.
        password: The password.
        token: The token of servers without users.
        tls: Whether TLS is required.
        connect_options: Options of nats-py that the program gives.
    """

    addresses: tuple[Address, ...]
    username: str | None = field(default=None, repr=False)
    password: Secret | None = None
    token: Secret | None = None
    tls: bool = False
    connect_options: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def __str__(self) -> str:
        return ",".join(map(str, self.addresses))


def location_of(url: BackendUrl, options: NatsOptions, connect_options: ConnectOptions | None = None) -> Location:
    """Read a URL and the options.

    Raises:
        UrlError: The URL has a path.
        OptionError: The options do not fit each other, or the URL.
    """
    if url.path.strip("/"):
        raise UrlError(f"{url} has a path", remedy="Write nats://HOST,HOST?stream=NAME.")
    given = ConnectOptions() if connect_options is None else connect_options
    hosts = bool(url.hosts)
    url, tls = _with_servers(url, given) if not hosts else (url, False)
    _check_login(url, options)
    login = bool(url.username or url.password) or any(getattr(options, name) is not None for name in LOGINS)
    check_connect_options(given, options, hosts=hosts, login=login)
    tls = tls or options.tls or options.tls_first
    named = [name for name in ("ca", "cert", "key") if getattr(options, name) is not None]
    named += [] if options.verify else ["verify"]
    if named and not tls:
        raise OptionError(f"{', '.join(named)} without TLS", remedy="Add tls=true to the options.")
    if options.key is not None and options.cert is None:
        raise OptionError("a key without its certificate", remedy="Also give the option `cert`.")
    addresses = tuple(Address(host, port or DEFAULT_PORT) for host, port in url.hosts)
    passed_on = {name: value for name, value in given.items() if name != "servers"}
    location = Location(addresses or (Address("localhost", DEFAULT_PORT),), tls=tls, connect_options=passed_on)
    if url.username is not None and url.password is None:
        return replace(location, token=Secret(url.username))  # NATS' own meaning: nats://TOKEN@HOST
    return replace(location, username=url.username, password=url.password, token=options.token)


def _with_servers(url: BackendUrl, given: ConnectOptions) -> tuple[BackendUrl, bool]:
    """Return the URL with the servers of nats-py's options, and whether they require TLS."""
    parsed = [urlsplit(server) for server in servers_of(given)]
    login = next((each for each in parsed if each.username), None)
    if login is not None and login.username is not None:
        password = None if login.password is None else Secret(unquote(login.password))
        url = replace(url, username=unquote(login.username), password=password)
    url = replace(url, hosts=tuple((each.hostname or "localhost", each.port) for each in parsed))
    return url, "tls" not in given and any(each.scheme == "tls" for each in parsed)


def _check_login(url: BackendUrl, options: NatsOptions) -> None:
    """Check that at most one login is given."""
    given = [name for name in LOGINS if getattr(options, name) is not None]
    given += ["the login of the URL"] if url.username or url.password else []
    if len(given) > 1:
        raise OptionError(f"{' and '.join(given)} are given", remedy="Give only one login.")
    if url.password and not url.username:
        raise UrlError(f"{url} has a password without a user", remedy="Write nats://USER@HOST?password_env=NAME.")
