"""Where a URL leads: a region of AWS, or an endpoint, and whose profile signs in.

    scheme://NAME?region=eu-west-1&profile=jobs           NAME in that region of AWS
    scheme://NAME?endpoint=http://localhost:8000          NAME behind an endpoint
    scheme://localhost:8000/NAME                          the same

What is left out comes from where AWS' own tools take it. Keys have no place in a URL. This module imports no client
library.
"""

import re
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol
from urllib.parse import urlsplit

from brrr_core.backend import BackendUrl
from brrr_core.errors import OptionError, UrlError

__all__ = ["AwsPlace", "PlaceOptions", "place_of"]

REGION: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
HOST: Final = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
CREDENTIALS: Final = "Keys come from the environment, a profile or the machine's role, as for AWS' own tools"


class PlaceOptions(Protocol):
    """The options that every backend on AWS has; a manifest may import no other package, so each declares them."""

    @property
    def region(self) -> str | None:
        """The region, where it is not the environment's or the profile's."""
        ...

    @property
    def endpoint(self) -> str | None:
        """The URL of the service, where it is not AWS' own."""
        ...

    @property
    def profile(self) -> str | None:
        """The profile of the user's AWS files, where it is not the environment's."""
        ...


@dataclass(frozen=True, slots=True)
class AwsPlace:
    """Where a service is, and who signs in; None for what AWS' own tools would choose."""

    region: str | None = None
    endpoint: str | None = None
    profile: str | None = None


def place_of(url: BackendUrl, options: PlaceOptions) -> tuple[str, AwsPlace]:
    """The name that a URL gives, empty where it gives none, and the place.

    Raises:
        UrlError: It holds a login, several hosts, or a path that is no name.
        OptionError: The region or the endpoint cannot be one, or the endpoint is named twice.
    """
    scheme = url.scheme
    if url.username or url.password:
        raise UrlError(
            f"the URL {url} holds a login",
            remedy=f"{CREDENTIALS}; write {scheme}://NAME?profile=… to choose a profile.",
        )
    if len(url.hosts) > 1:
        _refuse(url, "names several hosts")
    path = url.path.removeprefix("/")
    if "/" in path or (path and not url.hosts):
        _refuse(url, "has a path that is no name")
    region, endpoint, profile = options.region, options.endpoint, options.profile
    if region is not None and not REGION.fullmatch(region):
        raise OptionError(f"{region!r} is no region", remedy="Write one like region=eu-west-1.")
    if profile is not None and not (profile.strip() and profile.isprintable()):
        raise OptionError(f"{profile!r} is no profile", remedy="Name one of your AWS configuration file.")
    if endpoint is not None:
        _check_endpoint(endpoint)
    name, served = _host(url, path)
    if served and endpoint:
        raise OptionError(f"the URL {url} names an endpoint, and the option endpoint another", remedy="Name it once.")
    return name, AwsPlace(region, (served or endpoint or "").rstrip("/") or None, profile)


def _host(url: BackendUrl, path: str) -> tuple[str, str | None]:
    """The name and the endpoint: a host with a port, or before a path, is a server."""
    if not url.hosts:
        return "", None
    ((host, port),) = url.hosts
    if port is None and not path:
        return host, None
    shown = f"[{host}]" if ":" in host else host
    return path, f"http://{shown}" if port is None else f"http://{shown}:{port}"


def _check_endpoint(endpoint: str) -> None:
    """An endpoint is http(s)://HOST[:PORT]: what else it holds could be a secret, and is not shown."""
    try:
        parts = urlsplit(endpoint)
        plain = (
            parts.scheme in ("http", "https")
            and not (parts.username or parts.password or parts.query or parts.fragment)
            and parts.path in ("", "/")
            and HOST.fullmatch(parts.netloc.removesuffix(f":{parts.port}"))
        )
    except ValueError:
        plain = None
    if not plain:
        raise OptionError(
            "the endpoint is no plain address of a server",
            remedy=f"Write it like endpoint=http://localhost:8000, without a login or a path. {CREDENTIALS}.",
        )


def _refuse(url: BackendUrl, why: str) -> NoReturn:
    raise UrlError(
        f"the URL {url} {why}",
        remedy=f"Write {url.scheme}://NAME?region=eu-west-1, or {url.scheme}://localhost:8000/NAME for an emulator.",
    )
