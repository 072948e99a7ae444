"""What a backend is opened with: the parts of its URL, and the types that its options may have."""

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["MASK", "BackendUrl", "Duration", "Secret", "Size", "shown"]

MASK: Final = "****"
_LIKE_OPTIONS: Final = re.compile(r"[=&;?#@]")
"""Characters that set options and logins apart: a part of a URL that holds one may hold a misplaced secret."""


def shown(part: str) -> str:
    """Return a decoded part of a URL (host, path, name) as errors may show it, `****` if it may hold a secret."""
    return part if part.isprintable() and not _LIKE_OPTIONS.search(part) else MASK


class Secret:
    """A text that shows itself only when asked to: masked in str, repr, format, errors and logs."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the client library that needs it."""
        return self._text

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled; hand on the name of its environment variable instead")


class Duration(float):
    """A time in seconds; in a URL `250ms`, `30s`, `5m`, `2h`, `1d`, or a plain number of seconds."""

    __slots__ = ()


class Size(int):
    """A number of bytes; in a URL `64KiB`, `16MiB`, `2GB`, or a plain number."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, repr=False)
class BackendUrl:
    """A parsed backend URL, without its query: the query became the options.

    Attributes:
        scheme: The text before the first colon, in lower case.
        username: Percent-decoded, None where the URL names none.
        password: Percent-decoded, None where the URL holds none.
        hosts: Each (host, port); the port is None where the URL names none. Several are separated by commas.
        path: Percent-decoded, as it follows the hosts, with its leading slash; `name` in `memory:name`.
    """

    scheme: str
    username: str | None = None
    password: Secret | None = None
    hosts: tuple[tuple[str, int | None], ...] = ()
    path: str = ""

    def __str__(self) -> str:
        """Return the URL without its possible secrets: a username can be a token, and a path a misplaced option."""
        login = f"{MASK}@" if self.username or self.password else ""
        hosts = ",".join(_host(host, port) for host, port in self.hosts)
        slashes = "//" if self.hosts or login or self.path.startswith("/") else ""
        return f"{self.scheme}:{slashes}{login}{shown(hosts)}{shown(self.path)}"

    def __repr__(self) -> str:
        """As masked as `str`: it is what tracebacks, dataclasses and debuggers show."""
        return f"BackendUrl({str(self)!r})"


def _host(host: str, port: int | None) -> str:
    written = f"[{host}]" if ":" in host else host
    return written if port is None else f"{written}:{port}"
