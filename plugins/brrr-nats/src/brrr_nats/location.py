"""The servers of a URL, and the login."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from brrr_core.backend import BackendUrl, Secret
from brrr_core.errors import OptionError, UrlError
from brrr_nats.options import NatsOptions

__all__ = ["Address", "Location", "location_of"]

DEFAULT_PORT: Final = 4222


class Address(NamedTuple):
    """A server: a host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Location:
    """The servers and the login in a URL and its options.

    Attributes:
        addresses: The servers to ask first; they name the others of their cluster.
        username: The user, if there is one.
        password: The password.
        token: The token of servers without users.
        tls: Whether TLS is required.
    """

    addresses: tuple[Address, ...]
    username: str | None = field(default=None, repr=False)
    password: Secret | None = None
    token: Secret | None = None
    tls: bool = False

    def __str__(self) -> str:
        return ",".join(map(str, self.addresses))


def location_of(url: BackendUrl, options: NatsOptions) -> Location:
    """Read a URL.

    Raises:
        UrlError: The URL has a path.
        OptionError: The options do not fit each other, or the URL.
    """
    if url.path.strip("/"):
        raise UrlError(f"{url} has a path", remedy="Write nats://HOST,HOST?stream=NAME.")
    _check_login(url, options)
    tls = options.tls or options.tls_first
    given = [name for name in ("ca", "cert", "key") if getattr(options, name) is not None]
    given += [] if options.verify else ["verify"]
    if given and not tls:
        raise OptionError(f"{', '.join(given)} without TLS", remedy="Add tls=true to the options.")
    if options.key is not None and options.cert is None:
        raise OptionError("a key without its certificate", remedy="Give cert as well.")
    addresses = tuple(Address(host, port or DEFAULT_PORT) for host, port in url.hosts) or (
        Address("localhost", DEFAULT_PORT),
    )
    token = options.token
    if url.username is not None and url.password is None:
        return Location(addresses, token=Secret(url.username), tls=tls)  # NATS' own meaning: nats://TOKEN@HOST
    return Location(addresses, url.username, url.password, token, tls)


def _check_login(url: BackendUrl, options: NatsOptions) -> None:
    """Check that at most one login is given."""
    ways = ["creds", "nkey_seed_file", "nkey_seed", "token"]
    given = [name for name in ways if getattr(options, name) is not None]
    given += ["the login of the URL"] if url.username or url.password else []
    if len(given) > 1:
        raise OptionError(f"{' and '.join(given)} are given", remedy="Give only one login.")
    if url.password and not url.username:
        raise UrlError(f"{url} has a password without a user", remedy="Write nats://USER@HOST?password_env=NAME.")
