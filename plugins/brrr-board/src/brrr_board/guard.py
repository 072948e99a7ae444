"""Checks which requests and forms the board accepts, and sets the security headers of its pages.

Three attacks matter, because a board often has no login. A foreign page in a visitor's browser may send forms to the
board (CSRF), may reach it under a host name of its own (DNS rebinding), and may show it in a frame (clickjacking).
"""

import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LOCAL_HOSTS", "NONCE", "Guard", "is_loopback", "is_own_form", "remember", "token_of", "visitor_of"]

LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
"""The host names by which a browser on this machine reaches a board."""

NONCE: Final = "brrr_board.nonce"
"""The key under which the scope of a request has the nonce of its page."""

COOKIE: Final = "brrr-board"

ALLOW: Final = "Use localhost, or allow a name: `--allow-host` of `brrr board`, `hosts` of `Board`."

POLICY: Final = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",  # not `no-referrer`, with which browsers send forms with the origin `null`
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """Answers 403 to requests of foreign pages and of other machines, and adds the security headers.

    A query with bytes that are not ASCII, which no browser sends, gets the status 400.

    Args:
        app: The application behind it.
        hosts: The names by which browsers may reach the board, in addition to those of this machine. Without any, the
            board answers only this machine.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        others = {host.lower().strip("[]") for host in hosts} - set(LOCAL_HOSTS)
        self._hosts = others | set(LOCAL_HOSTS)
        self._local_only = not others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        if scope["type"] != "http":
            return
        scope[NONCE] = nonce = secrets.token_urlsafe(16)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = POLICY.format(nonce=nonce)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(Request(scope))
        await (self._app if refusal is None else refusal)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if _host_of(f"//{host}") not in self._hosts:
            return _refused("the board does not answer under this host name", ALLOW)
        if self._local_only and (request.client is None or not is_loopback(request.client.host)):
            return _refused("the board answers only its own machine", ALLOW)
        if origin is not None and not _is_origin_of(origin, host):
            return _refused("the request comes from a page of another site", "Send it from the board.")
        if not request.scope["query_string"].isascii():  # some servers pass such bytes on, and `request.url` fails
            return _refused("the query has bytes that are not ASCII", "Write them percent-encoded, as in %C3%A9.", 400)
        return None


def is_loopback(host: str) -> bool:
    """Whether an address or a host name means this machine."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def visitor_of(request: Request) -> str:
    """Return the secret of a visitor's cookie; a new one if there is none."""
    return request.cookies.get(COOKIE) or secrets.token_urlsafe(32)


def remember(request: Request, response: Response, visitor: str) -> None:
    """Give the visitor the cookie, unless the browser has it. Its path is the folder of the page, by default."""
    if COOKIE not in request.cookies:
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, visitor, path=None, httponly=True, secure=secure, samesite="strict")


def token_of(visitor: str) -> str:
    """Return the form token of a visitor. It is derived from the cookie, which foreign pages cannot read."""
    return hmac.digest(visitor.encode(), b"a form of brrr-board", "sha256").hex()


def is_own_form(request: Request, token: str) -> bool:
    """Whether a form was sent by a page of this board. `Guard` has compared its `Origin`, if it has one."""
    visitor = request.cookies.get(COOKIE)
    if visitor is None or "origin" not in request.headers:
        return False
    return hmac.compare_digest(token_of(visitor).encode(), token.encode())


def _is_origin_of(origin: str, host: str) -> bool:
    """Whether an origin is this site. The scheme may differ, since a proxy may end TLS."""
    scheme, _, place = origin.partition("://")
    return scheme in ("http", "https") and place.lower() == host.lower()


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _refused(what: str, remedy: str, status: int = 403) -> Response:
    return PlainTextResponse(f"Refused: {what}. {remedy}\n", status_code=status)
