"""The HTTP front: POST schedules a call, GET of the same URL gives its result."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import brrr_core as brrr
from brrr_core.errors import BackendError, BrrrError, EncodeError, NotFoundError, SignatureError, UnknownTaskError
from examples.demo.arguments import Arguments

__all__ = ["make_front"]

STATUS: Final[Mapping[type[BrrrError], int]] = {
    SignatureError: 400,
    EncodeError: 400,
    UnknownTaskError: 404,
    NotFoundError: 404,
    BackendError: 503,
}
"""The HTTP status of each kind of error; of any other, 500."""


class Front:
    """The endpoints over one application.

    Args:
        app: Schedules and reads.
        handlers: The tasks that may be called, by name.
        topic: Where their calls go.
    """

    def __init__(self, app: brrr.AppConsumer, handlers: Mapping[str, brrr.TypedTask[..., Any]], topic: str) -> None:
        self._app = app
        self._handlers = handlers
        self._arguments = {name: Arguments(name, task) for name, task in handlers.items()}
        self._topic = topic

    async def index(self, _request: Request) -> JSONResponse:
        """Say which tasks there are, and what each takes."""
        return JSONResponse({"tasks": {name: arguments.describe() for name, arguments in self._arguments.items()}})

    async def schedule(self, request: Request) -> JSONResponse:
        """Have the call run by a worker. A call that has a result already is not run again."""
        name, arguments = self._call_of(request)
        scheduled = await self._app.schedule(self._handlers[name], topic=self._topic)(**arguments)
        return JSONResponse(
            {
                "task": name,
                "arguments": arguments,
                "topic": scheduled.topic,
                "call_hash": scheduled.call_hash,
                "status": "has a result already" if scheduled.root_id is None else "scheduled",
                "result_url": str(request.url),
            },
            status_code=202,
        )

    async def read(self, request: Request) -> JSONResponse:
        """Give the result of the call, if there is one."""
        name, arguments = self._call_of(request)
        try:
            result = await self._app.read(self._handlers[name])(**arguments)
        except NotFoundError as error:
            raise NotFoundError(
                f"there is no result of {name} with {arguments} (yet)",
                remedy="POST to the same URL schedules it; ask again a moment later.",
            ) from error
        return JSONResponse({"task": name, "arguments": arguments, "result": result})

    def _call_of(self, request: Request) -> tuple[str, dict[str, object]]:
        name: str = request.path_params["task"]
        if name not in self._handlers:
            raise UnknownTaskError(
                f"there is no task {name!r} here", remedy=f"The tasks are {', '.join(self._handlers)}."
            )
        return name, self._arguments[name].read(request.query_params.multi_items())


def make_front(
    app: brrr.AppConsumer, handlers: Mapping[str, brrr.TypedTask[..., Any]], *, topic: str = "demo"
) -> Starlette:
    """The ASGI application over an application's tasks.

    Args:
        app: An `AppConsumer`, or an `AppWorker`; its connection must be open while requests are served.
        handlers: The tasks that may be called, by name; `app` must know them.
        topic: Where their calls go.
    """
    front = Front(app, handlers, topic)
    return Starlette(
        routes=[
            Route("/", front.index, methods=["GET"]),
            Route("/{task}", front.schedule, methods=["POST"]),
            Route("/{task}", front.read, methods=["GET"]),
        ],
        exception_handlers={BrrrError: _brrr_error, HTTPException: _http_error},
    )


async def _brrr_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BrrrError)  # noqa: S101 - registered for this class alone
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    return JSONResponse({"code": error.code, "what": error.what, "remedy": error.remedy}, status_code=status)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - likewise
    what = f"{request.method} {request.url.path}: {error.detail}"
    remedy = "POST /TASK?ARGUMENTS schedules a call, GET of the same URL gives its result, GET / lists the tasks."
    return JSONResponse(
        {"code": f"HTTP-{error.status_code}", "what": what, "remedy": remedy},
        status_code=error.status_code,
        headers=error.headers,
    )
