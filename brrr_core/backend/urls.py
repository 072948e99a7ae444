"""Backend URLs: parses a URL, and masks the secrets in one.

    scheme:name                                       memory:jobs
    scheme://user:password@host:port,host:port/path?option=value&option=value

Inside a part, the reserved characters of RFC 3986 are percent-encoded. A `+` is a plus. Each backend defines the
meaning of its path.
"""

import re
from dataclasses import fields
from typing import Final, NamedTuple, NoReturn, get_args, get_type_hints
from urllib.parse import quote, unquote

from brrr_core.backend.options import MASK, BackendUrl, Secret, shown
from brrr_core.errors import UrlError

__all__ = ["ENV", "PASSWORD", "ParsedUrl", "mask_url", "parse_url"]

ENV: Final = "_env"
"""The end of an option's name whose value is the name of an environment variable with a secret."""

PASSWORD: Final = "password"  # noqa: S105 - the name of a field, not a password
"""The secret that is a part of the URL. If the schema has no option of this name, `password_env` sets that part."""

SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
LIKE_SCHEME: Final = re.compile(r"[A-Za-z][\w+.-]*:")
BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
NOT_IN_HOST: Final = re.compile(r"[\s\[\]/\\@?#:,]")
MAX_PORT: Final = 65535

PLAIN_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
PLAIN_USER: Final = re.compile(r"[A-Za-z0-9._-]+")
PLAIN_VALUE: Final = re.compile(r"[A-Za-z0-9._:/+,-]*")


class ParsedUrl(NamedTuple):
    """A parsed URL.

    Attributes:
        url: The parts of the URL, without the query.
        query: The (name, value) pairs, percent-decoded, in order. Every value is a secret until a schema declares it
            otherwise.
    """

    url: BackendUrl
    query: tuple[tuple[str, Secret], ...]


def parse_url(text: str) -> ParsedUrl:
    """Parse a backend URL.

    Raises:
        UrlError: The URL is malformed. The error shows it masked.
    """
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
        raise UrlError(
            f"a backend URL must be a str, not a {type(text).__name__}", remedy="Pass a str like 'sqlite:///brrr.db'."
        )
    scheme = SCHEME.match(text)
    if scheme is None and LIKE_SCHEME.match(text):
        _refuse(
            text,
            "has a scheme with a '_' or a letter that is not ASCII",
            "A scheme has ASCII letters, digits, '+', '.' and '-'.",
        )
    if scheme is None:
        _refuse(text, "has no scheme", "Begin it with a scheme, as in sqlite:///brrr.db or redis://localhost.")
    if CONTROL.search(text) or text != text.strip():
        _refuse(text, "contains a control character, or a space at an end", "Remove it; often it is a line break.")
    if "#" in text:
        _refuse(text, "contains a '#'", "Write it as %23.")
    location, _, query = text[scheme.end() :].partition("?")
    for separator in ";&":
        if separator in location.rpartition("@")[2]:
            _refuse(
                text,
                f"has a {separator!r} before its options",
                f"Begin the options with '?' and separate them with '&'. Write {quote(separator)} in a name.",
            )
    url = _parse_location(text, scheme[1].lower(), location)
    return ParsedUrl(url, tuple(_parse_pair(text, pair) for pair in query.split("&") if pair))


def mask_url(text: str, options: type | None = None) -> str:
    """Return the URL with `****` for every secret, and for every part that could hold one in a malformed URL.

    It accepts any text. If in doubt, it masks.

    Args:
        text: A URL, well-formed or not.
        options: The schema of the scheme's options. Options that are not secret are shown. Without a schema, all
            options are masked.
    """
    scheme = SCHEME.match(text)
    if scheme is None:
        return MASK
    rest = text[scheme.end() :]
    location = re.split(r"[?#]", rest, maxsplit=1)[0]
    mark, tail = rest[len(location) : len(location) + 1], rest[len(location) + 1 :]
    if "@" in tail:
        # Either a password contains a raw '?' or '#', or an option a raw '@'. The end of the secret is unknown.
        return f"{scheme[0]}{MASK}"
    if mark == "?":
        query, hash_mark, _ = tail.partition("#")
        pairs = "&".join(_mask_pair(pair, options) for pair in query.split("&"))
        return f"{scheme[0]}{_mask_location(location)}?{pairs}{f'#{MASK}' if hash_mark else ''}"
    return f"{scheme[0]}{_mask_location(location)}{f'#{MASK}' if mark else ''}"


def _refuse(text: str, what: str, remedy: str) -> NoReturn:
    raise UrlError(f"the URL {mask_url(text)!r} {what}", remedy=remedy) from None


def _parse_location(text: str, scheme: str, location: str) -> BackendUrl:
    if not location.startswith("//"):
        if "@" in location:
            _refuse(text, "has a login without '//' before it", "Write it like redis://user@host.")
        if location.startswith("/"):
            _refuse(
                text, "has one slash after its scheme", "Write three slashes before a path, as in sqlite:///brrr.db."
            )
        return BackendUrl(scheme, path=_decode_shown(text, location, "name"))
    authority, slash, path = location[2:].partition("/")
    login, _, hosts = authority.rpartition("@")
    if "@" in login or "@" in path:
        _refuse(text, "contains more than one '@', or one in its path", "Write it as %40 in a password or a path.")
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
            _refuse(text, "has a host in brackets that is not an IPv6 address", "Write it like [::1]:6379.")
    else:
        name, colon, rest = written.partition(":")
        rest = colon + rest
        host = _decode_shown(text, name, "host")
        if not host or NOT_IN_HOST.search(host):
            _refuse(
                text,
                "has an empty or malformed host",
                "Write hosts like localhost:6379, and separate several with commas.",
            )
    return host, _parse_port(text, rest)


def _parse_port(text: str, rest: str) -> int | None:
    if not rest:
        return None
    port = rest[1:]
    if rest[0] == ":" and port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= MAX_PORT:
        return int(port)
    _refuse(
        text,
        f"has a port that is not a number from 1 to {MAX_PORT}",
        "Write hosts like localhost:6379, and IPv6 addresses in brackets. In a password, write / as %2F and @ as %40.",
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
        _refuse(
            text, "has an option without a name or a value", "Write options like ?lease=30s, and & in a value as %26."
        )
    return _decode(text, name, "option"), Secret(_decode(text, value, "option"))


def _decode(text: str, part: str, part_name: str) -> str:
    if BAD_PERCENT.search(part):
        _refuse(text, f"has a '%' in its {part_name} that encodes nothing", "Write a percent sign as %25.")
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        _refuse(text, f"has a {part_name} whose percent-encoded bytes are not UTF-8", "Encode the text as UTF-8.")


def _decode_shown(text: str, part: str, part_name: str) -> str:
    decoded = _decode(text, part, part_name)
    if CONTROL.search(decoded):
        _refuse(text, f"has a control character in its {part_name}", "Remove it.")
    return decoded


def _mask_location(location: str) -> str:
    slashes = "//" if location.startswith("//") else ""
    # The last '@' ends the login, even if the password contains a raw '/'.
    login, at, rest = location.removeprefix(slashes).rpartition("@")
    user, colon, _ = login.partition(":")
    if not slashes:
        return f"{MASK}@" * bool(at) + (MASK if ":" in rest else _mask_path(rest))
    # A username without a password may be a token.
    shown = f"{user}:{MASK}@" if colon and PLAIN_USER.fullmatch(user) else f"{MASK}@" * bool(at)
    hosts, slash, path = rest.partition("/")
    return f"{slashes}{shown}{_mask_hosts(hosts)}{_mask_path(slash + path)}"


def _mask_hosts(hosts: str) -> str:
    found = [PLAIN_HOST.fullmatch(host) for host in hosts.split(",")] if hosts else []
    plain = all(host is not None and int(host[1] or 1) <= MAX_PORT for host in found)
    return hosts if plain else MASK


def _mask_path(path: str) -> str:
    return path if shown(unquote(path)) != MASK else MASK


def _mask_pair(pair: str, options: type | None) -> str:
    written, equals, value = pair.partition("=")
    name = unquote(written).replace("-", "_")
    secrets = _secrets(options) if options else {}
    if not equals:
        return MASK if pair else ""
    if name in secrets:
        shown = not secrets[name] and PLAIN_VALUE.fullmatch(value)
        return f"{name}={value if shown else MASK}"
    target = name.removesuffix(ENV)
    return f"{name}={MASK}" if name.endswith(ENV) and (secrets.get(target) or target == PASSWORD) else MASK


def _secrets(options: type) -> dict[str, bool]:
    """Return whether each option of a schema is secret."""
    hints = get_type_hints(options)
    return {field.name: Secret in (hints[field.name], *get_args(hints[field.name])) for field in fields(options)}
