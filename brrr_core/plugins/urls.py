"""Backend URLs: taking one apart, and showing one without its secrets.

    scheme:name                                       memory:jobs
    scheme://user:password@host:port,host:port/path?option=value&option=value

What RFC 3986 reserves is percent-encoded inside a part; a `+` is a plus. What the path means is the backend's affair.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, NoReturn
from urllib.parse import quote, unquote

from brrr_core.backend.options import MASK, BackendUrl, Secret, shown
from brrr_core.errors import UrlError
from brrr_core.plugins.options import ENV, PASSWORD, Field, fields_of

__all__ = ["ParsedUrl", "mask_url", "parse_url"]

SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
NOT_IN_HOST: Final = re.compile(r"[\s\[\]/\\@?#:,]")
HIGHEST_PORT: Final = 65535

PLAIN_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
PLAIN_USER: Final = re.compile(r"[A-Za-z0-9._-]+")
PLAIN_VALUE: Final = re.compile(r"[A-Za-z0-9._:/+,-]*")


class ParsedUrl(NamedTuple):
    """A URL taken apart.

    Attributes:
        url: All but the query.
        query: Each (name, value), percent-decoded, in order. Until a schema says otherwise, every value is a secret.
    """

    url: BackendUrl
    query: tuple[tuple[str, Secret], ...]


def parse_url(text: str) -> ParsedUrl:
    """Take a backend URL apart.

    Raises:
        UrlError: It cannot be read. The error shows the URL masked.
    """
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
        raise UrlError(
            f"a backend URL is a text, and this is a {type(text).__name__}", remedy="Pass it like 'sqlite:///brrr.db'."
        )
    scheme = SCHEME.match(text)
    if scheme is None:
        _refuse(text, "has no scheme", "Start it with one, like sqlite:///brrr.db or redis://localhost.")
    if CONTROL.search(text) or text != text.strip():
        _refuse(text, "holds a control character, or space around it", "Remove it: often it is the end of a line.")
    if "#" in text:
        _refuse(text, "holds a '#'", "Write it as %23.")
    place, _, query = text[scheme.end() :].partition("?")
    for separator in ";&":
        if separator in place.rpartition("@")[2]:
            _refuse(
                text,
                f"has a {separator!r} before its options",
                f"Begin the options with '?' and separate them by '&'; write {quote(separator)} for one in a name.",
            )
    url = _parse_place(text, scheme[1].lower(), place)
    return ParsedUrl(url, tuple(_parse_pair(text, pair) for pair in query.split("&") if pair))


def mask_url(text: str, options: type | None = None) -> str:
    """The URL as it may be shown: whatever is a secret, or could be one in a malformed URL, reads `****`.

    Made for any text at all, so it hides too much rather than too little.

    Args:
        text: A URL, or what should have been one.
        options: The schema of the scheme's options: those that are no secrets are shown. Without it, none is.
    """
    scheme = SCHEME.match(text)
    if scheme is None:
        return MASK
    rest = text[scheme.end() :]
    place = re.split(r"[?#]", rest, maxsplit=1)[0]
    mark, tail = rest[len(place) : len(place) + 1], rest[len(place) + 1 :]
    if "@" in tail:
        # Either a password holds a raw '?' or '#', or an option a raw '@': where the secret ends, nobody can tell.
        return f"{scheme[0]}{MASK}"
    if mark == "?":
        query, hash_mark, _ = tail.partition("#")
        pairs = "&".join(_mask_pair(pair, options) for pair in query.split("&"))
        return f"{scheme[0]}{_mask_place(place)}?{pairs}{f'#{MASK}' if hash_mark else ''}"
    return f"{scheme[0]}{_mask_place(place)}{f'#{MASK}' if mark else ''}"


def _refuse(text: str, what: str, remedy: str) -> NoReturn:
    raise UrlError(f"the URL {mask_url(text)!r} {what}", remedy=remedy) from None


def _parse_place(text: str, scheme: str, place: str) -> BackendUrl:
    if not place.startswith("//"):
        if "@" in place:
            _refuse(text, "has a login, but no '//' before it", "Write it like redis://user@host.")
        if place.startswith("/"):
            _refuse(text, "has one slash after its scheme", "Write three before a path, like sqlite:///brrr.db.")
        return BackendUrl(scheme, path=_decode_shown(text, place, "name"))
    authority, slash, path = place[2:].partition("/")
    login, _, hosts = authority.rpartition("@")
    if "@" in login or "@" in path:
        _refuse(text, "holds more than one '@', or one in its path", "Write it as %40 in a password or a path.")
    username, _, password = login.partition(":")
    return BackendUrl(
        scheme,
        username=_decode_shown(text, username, "username") or None,
        password=Secret(_decode(text, password, "password")) if password else None,
        hosts=tuple(_parse_host(text, host) for host in hosts.split(",")) if hosts else (),
        path=_decode_shown(text, slash + path, "path"),
    )


def _parse_host(text: str, written: str) -> tuple[str, int | None]:
    if written.startswith("["):
        name, bracket, rest = written[1:].partition("]")
        host = _decode(text, name, "host")
        if not bracket or not _is_ipv6(host):
            _refuse(text, "has a host in brackets that is no IPv6 address", "Write it like [::1]:6379.")
    else:
        name, colon, rest = written.partition(":")
        rest = colon + rest
        host = _decode_shown(text, name, "host")
        if not host or NOT_IN_HOST.search(host):
            _refuse(text, "has an empty or ill-formed host", "Write hosts like localhost:6379, several with commas.")
    return host, _parse_port(text, rest)


def _parse_port(text: str, rest: str) -> int | None:
    if not rest:
        return None
    port = rest[1:]
    if rest[0] == ":" and port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= HIGHEST_PORT:
        return int(port)
    _refuse(
        text,
        f"has a port that is no number from 1 to {HIGHEST_PORT}",
        "Write hosts like localhost:6379, IPv6 ones in brackets; in a password, / is %2F and @ is %40.",
    )


def _is_ipv6(host: str) -> bool:
    from ipaddress import IPv6Address

    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True


def _parse_pair(text: str, pair: str) -> tuple[str, Secret]:
    name, equals, value = pair.partition("=")
    if not name or not equals:
        _refuse(text, "has an option without a name or a value", "Write options like ?lease=30s; & in a value is %26.")
    return _decode(text, name, "option"), Secret(_decode(text, value, "option"))


def _decode(text: str, part: str, called: str) -> str:
    if BAD_PERCENT.search(part):
        _refuse(text, f"has a '%' in its {called} that encodes nothing", "Write a plain percent sign as %25.")
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        _refuse(text, f"has a {called} whose percent-encoded bytes are no UTF-8", "Encode its text as UTF-8.")


def _decode_shown(text: str, part: str, called: str) -> str:
    decoded = _decode(text, part, called)
    if CONTROL.search(decoded):
        _refuse(text, f"has a control character in its {called}", "Remove it.")
    return decoded


def _mask_place(place: str) -> str:
    slashes = "//" if place.startswith("//") else ""
    # The last '@' ends the login even where a raw '/' in the password would have ended it before.
    login, at, rest = place.removeprefix(slashes).rpartition("@")
    user, colon, _ = login.partition(":")
    # A lone username may be a token.
    if not slashes:
        return f"{MASK}@" * bool(at) + (MASK if ":" in rest else _mask_path(rest))
    shown = f"{user}:{MASK}@" if colon and PLAIN_USER.fullmatch(user) else f"{MASK}@" * bool(at)
    hosts, slash, path = rest.partition("/")
    return f"{slashes}{shown}{_mask_hosts(hosts)}{_mask_path(slash + path)}"


def _mask_hosts(hosts: str) -> str:
    found = [PLAIN_HOST.fullmatch(host) for host in hosts.split(",")] if hosts else []
    plain = all(host is not None and int(host[1] or 1) <= HIGHEST_PORT for host in found)
    return hosts if plain else MASK


def _mask_path(path: str) -> str:
    return path if shown(unquote(path)) != MASK else MASK


def _mask_pair(pair: str, options: type | None) -> str:
    written, equals, value = pair.partition("=")
    name = unquote(written).replace("-", "_")
    known: Mapping[str, Field] = fields_of(options) if options else {}
    if not equals:
        return MASK if pair else ""
    if name in known:
        shown = not known[name].secret and PLAIN_VALUE.fullmatch(value)
        return f"{name}={value if shown else MASK}"
    target = name.removesuffix(ENV)
    is_secret = target in known and known[target].secret
    return f"{name}={MASK}" if name.endswith(ENV) and (is_secret or target == PASSWORD) else MASK
