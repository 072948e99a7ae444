"""The HTTP front: POST schedules a call, GET of the same URL returns its result."""

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

import brrr_core as brrr
from brrr_core.errors import BackendError, BrrrError, EncodeError, NotFoundError, SignatureError, UnknownTaskError
from examples.demo.arguments import Arguments

__all__ = ["LOCAL_HOSTS", "make_front"]

LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
"""The host names by which a browser on this machine reaches the front."""

STATUS: Final[Mapping[type[BrrrError], int]] = {
    SignatureError: 400,
    EncodeError: 400,
    UnknownTaskError: 404,
    NotFoundError: 404,
    BackendError: 503,
}
"""The HTTP status of each error class; any other error is 500."""


class Front:
    """The endpoints of one application.

    Args:
        app: Schedules and reads calls.
        handlers: The tasks that clients may call, by name.
        topic: The topic of their calls.
    """

    def __init__(self, app: brrr.AppConsumer, handlers: Mapping[str, brrr.TypedTask[Any]], topic: str) -> None:
        self._app = app
        self._handlers = handlers
        self._arguments = {name: Arguments(name, task) for name, task in handlers.items()}
        self._topic = topic

    async def index(self, _request: Request) -> JSONResponse:
        """List the tasks with their arguments."""
        return JSONResponse({"tasks": {name: arguments.describe() for name, arguments in self._arguments.items()}})

    async def schedule(self, request: Request) -> JSONResponse:
        """Schedule the call, unless it has a result or was scheduled before."""
        name, arguments = self._call_of(request)
        scheduled = await self._app.schedule(self._handlers[name], topic=self._topic)(**arguments)
        return JSONResponse(
            {
                "task": name,
                "arguments": arguments,
                "topic": scheduled.topic,
                "call_hash": scheduled.call_hash,
                "status": scheduled.state,
                "result_url": str(request.url),
            },
            status_code=202,
        )

    async def read(self, request: Request) -> JSONResponse:
        """Return the result of the call, if it has one."""
        name, arguments = self._call_of(request)
        try:
            result = await self._app.read(self._handlers[name])(**arguments)
        except NotFoundError as error:
            raise NotFoundError(
                f"{name} with {arguments} has no result (yet)",
                remedy="POST to the same URL to schedule it, then ask again.",
            ) from error
        return JSONResponse({"task": name, "arguments": arguments, "result": result})

    def _call_of(self, request: Request) -> tuple[str, dict[str, object]]:
        name: str = request.path_params["task"]
        if name not in self._handlers:
            raise UnknownTaskError(
                f"the task {name!r} does not exist", remedy=f"The tasks are {', '.join(self._handlers)}."
            )
        return name, self._arguments[name].read(request.query_params.multi_items())


class SameSite:
    """Refuses requests of foreign web pages in a visitor's browser, by `Origin` or by `Host` (DNS rebinding).

    It also refuses a query with bytes that are not ASCII, which no browser sends.

    Args:
        app: The ASGI application behind it.
        hosts: The hosts that requests may name, without ports; IPv6 addresses without brackets.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that is refused, and pass on any other."""
        refusal = self._refusal(Request(scope)) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, request: Request) -> JSONResponse | None:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if _name_of(f"//{host}") not in self._hosts:
            return _http_answer(
                403, f"the request names the host {host[:80]!r}", "Use localhost, or start with --allow-host."
            )
        if origin is not None and origin != f"{request.scope['scheme']}://{host}":
            return _http_answer(
                403, f"the request comes from a page of {origin[:80]!r}", "Send it from this site, or from no page."
            )
        if not request.scope["query_string"].isascii():  # some servers pass such bytes on, and `request.url` fails
            return _http_answer(
                400, "the query has bytes that are not ASCII", "Write them percent-encoded, as in %C3%A9."
            )
        return None


def _name_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def make_front(
    app: brrr.AppConsumer,
    handlers: Mapping[str, brrr.TypedTask[Any]],
    *,
    topic: str = "demo",
    hosts: Iterable[str] = LOCAL_HOSTS,
    board: ASGIApp | None = None,
) -> Starlette:
    """Create the ASGI application for the tasks.

    Args:
        app: An `AppConsumer`, or an `AppWorker`; its connection must be open while requests are served.
        handlers: The tasks that clients may call, by name; `app` must know them.
        topic: The topic of their calls.
        hosts: The names by which clients may address this server.
        board: The board, for the path `/board`.
    """
    boards = [] if board is None else [Route("/board", _board), Mount("/board", board)]
    front = Front(app, handlers, topic)
    return Starlette(
        routes=[
            *boards,
            Route("/", front.index, methods=["GET"]),
            Route("/{task}", front.schedule, methods=["POST"]),
            Route("/{task}", front.read, methods=["GET"]),
        ],
        exception_handlers={BrrrError: _brrr_error, HTTPException: _http_error},
        middleware=[Middleware(SameSite, hosts=hosts)],
    )


async def _board(_request: Request) -> RedirectResponse:
    return RedirectResponse("board/")  # its links are relative


async def _brrr_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BrrrError)  # noqa: S101 - registered for this class alone
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    return JSONResponse({"code": error.code, "what": error.what, "remedy": error.remedy}, status_code=status)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    return _http_answer(
        error.status_code,
        f"{request.method} {request.scope['path']}: {error.detail}",
        "POST /TASK?ARGUMENTS schedules a call, GET of the same URL returns its result, GET / lists the tasks.",
        error.headers,
    )


def _http_answer(status: int, what: str, remedy: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"code": f"HTTP-{status}", "what": what, "remedy": remedy}, status_code=status, headers=headers)
