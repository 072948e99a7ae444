"""The inputs of a backend: the parts of its URL, and types for its options."""

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["MASK", "BackendUrl", "Duration", "Secret", "Size", "shown"]

MASK: Final = "****"
_LIKE_OPTIONS: Final = re.compile(r"[=&;?#@]")
"""The delimiters of options and logins. A part of a URL that contains one may contain a misplaced secret."""


def shown(part: str) -> str:
    """Return a decoded part of a URL (host, path, name) for an error message: `****` if it may contain a secret."""
    return part if part.isprintable() and not _LIKE_OPTIONS.search(part) else MASK


class Secret:
    """A secret text. It is masked in str, repr, format, errors and logs; `reveal` returns it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text, for the client library that needs it."""
        return self._text

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret cannot be pickled; pass the name of its environment variable instead")


class Duration(float):
    """A time in seconds; in a URL `250ms`, `30s`, `5m`, `2h`, `1d`, or a plain number of seconds."""

    __slots__ = ()


class Size(int):
    """A number of bytes; in a URL `64KiB`, `16MiB`, `2GB`, or a plain number."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, repr=False)
class BackendUrl:
    """A parsed backend URL, without its query, which holds the options.

    Attributes:
        scheme: The text before the first colon, in lower case.
        username: The username, percent-decoded, or None.
        password: The password, percent-decoded, or None.
        hosts: The (host, port) pairs; a port is None if the URL has none. In the URL, commas separate them.
        path: The path after the hosts, percent-decoded, with its leading slash. In `memory:name`, it is `name`.
    """

    scheme: str
    username: str | None = None
    password: Secret | None = None
    hosts: tuple[tuple[str, int | None], ...] = ()
    path: str = ""

    def __str__(self) -> str:
        """Return the URL without possible secrets. A username may be a token, and a path a misplaced option."""
        login = f"{MASK}@" if self.username or self.password else ""
        hosts = ",".join(_host(host, port) for host, port in self.hosts)
        slashes = "//" if self.hosts or login or self.path.startswith("/") else ""
        return f"{self.scheme}:{slashes}{login}{shown(hosts)}{shown(self.path)}"

    def __repr__(self) -> str:
        """Return a text as masked as that of `str`, because tracebacks, dataclasses and debuggers show it."""
        return f"BackendUrl({str(self)!r})"


def _host(host: str, port: int | None) -> str:
    written = f"[{host}]" if ":" in host else host
    return written if port is None else f"{written}:{port}"
