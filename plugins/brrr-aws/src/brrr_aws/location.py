"""Location of an AWS service: its region or endpoint, and the profile that signs in.

    scheme://NAME?region=eu-west-1&profile=jobs           NAME in that region of AWS
    scheme://NAME?endpoint=http://localhost:8000          NAME behind an endpoint
    scheme://localhost:8000/NAME                          the same

Everything that the URL omits comes from the sources that AWS' own tools use. A URL never holds keys. This module
imports no client library.
"""

import re
from dataclasses import dataclass, field
from typing import Final, NoReturn, Protocol
from urllib.parse import urlsplit

from brrr_core.backend import BackendUrl
from brrr_core.errors import OptionError, UrlError

__all__ = ["AwsLocation", "LocationOptions", "parse_location"]

REGION: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
SESSIONS: Final = ("aiobotocore.session.AioSession", "aioboto3.session.Session")
"""Classes of sessions that a program may pass."""

HOST: Final = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
CREDENTIALS: Final = "Keys come from the environment, a profile or the machine's role, as for AWS' own tools"


class LocationOptions(Protocol):
    """Options of every backend on AWS. Each backend declares them, as a manifest may import no other package."""

    @property
    def region(self) -> str | None:
        """The region, or None for the environment's or the profile's."""
        ...

    @property
    def endpoint(self) -> str | None:
        """The URL of the service, or None for AWS' own."""
        ...

    @property
    def profile(self) -> str | None:
        """The profile in the user's AWS files, or None for the environment's."""
        ...

    @property
    def session(self) -> object | None:
        """A session that the program has, or None for a new one."""
        ...


@dataclass(frozen=True, slots=True)
class AwsLocation:
    """Region, endpoint, profile and session for a service. None stands for the choice of AWS' own tools."""

    region: str | None = None
    endpoint: str | None = None
    profile: str | None = None
    session: object | None = field(default=None, repr=False)


def parse_location(url: BackendUrl, options: LocationOptions) -> tuple[str, AwsLocation]:
    """Return the name in a URL (empty if it has none) and the location.

    Raises:
        UrlError: The URL holds a login, several hosts, or a path with a slash.
        OptionError: The region, the profile, the session or the endpoint is malformed, or one of them is given twice.
    """
    scheme = url.scheme
    if url.username or url.password:
        raise UrlError(
            f"the URL {url} holds a login",
            remedy=f"{CREDENTIALS}. Write {scheme}://NAME?profile=… to choose a profile.",
        )
    if len(url.hosts) > 1:
        _refuse(url, "names several hosts")
    path = url.path.removeprefix("/")
    if "/" in path or (path and not url.hosts):
        _refuse(url, "has a path that cannot be a name")
    region, endpoint, profile = options.region, options.endpoint, options.profile
    if region is not None and not REGION.fullmatch(region):
        raise OptionError(f"{region!r} is not a region", remedy="Write a region such as region=eu-west-1.")
    if profile is not None and not (profile.strip() and profile.isprintable()):
        raise OptionError(f"{profile!r} is not a profile", remedy="Name a profile of your AWS configuration file.")
    if options.session is not None:
        _check_session(options.session)
    if profile is not None and options.session is not None:
        raise OptionError(
            f"the option profile is {profile!r}, and the option session has its own profile",
            remedy="Pass a session with that profile, or only the profile.",
        )
    if endpoint is not None:
        _check_endpoint(endpoint)
    name, server = _split_host(url, path)
    if server and endpoint:
        raise OptionError(
            f"the URL {url} names one endpoint, and the option endpoint another", remedy="Name it only once."
        )
    return name, AwsLocation(region, (server or endpoint or "").rstrip("/") or None, profile, options.session)


def _split_host(url: BackendUrl, path: str) -> tuple[str, str | None]:
    """Return the name and the endpoint. A host is a server if a port or a path follows it, and the name otherwise."""
    if not url.hosts:
        return "", None
    ((host, port),) = url.hosts
    if port is None and not path:
        return host, None
    shown = f"[{host}]" if ":" in host else host
    return path, f"http://{shown}" if port is None else f"http://{shown}:{port}"


def _check_session(session: object) -> None:
    names = [f"{each.__module__}.{each.__qualname__}" for each in type(session).__mro__]
    if not any(name in SESSIONS for name in names):
        raise OptionError(
            f"the option session is a {names[0]}",
            remedy="Pass an aioboto3.Session, or an AioSession of aiobotocore.session.",
        )


def _check_endpoint(endpoint: str) -> None:
    """Check that an endpoint is http(s)://HOST[:PORT]. The error does not show it, as it could hold a secret."""
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
            "the endpoint is not a plain server address",
            remedy=f"Write it like endpoint=http://localhost:8000, without a login or a path. {CREDENTIALS}.",
        )


def _refuse(url: BackendUrl, reason: str) -> NoReturn:
    raise UrlError(
        f"the URL {url} {reason}",
        remedy=f"Write {url.scheme}://NAME?region=eu-west-1, or {url.scheme}://localhost:8000/NAME for an emulator.",
    )
