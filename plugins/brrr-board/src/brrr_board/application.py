"""The board as an ASGI application."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qsl, urlencode

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from brrr_board.actions import act, read_arguments
from brrr_board.calls import CallReader
from brrr_board.guard import NONCE, Guard, is_own_form, remember, token_of, visitor_of
from brrr_board.rendering import Texts
from brrr_board.sampling import Sampler, SamplingEndedError
from brrr_board.streams import STATE_PARAMETER, MakeView, PageHistories, Streams
from brrr_board.views import View, Views
from brrr_core import AppConsumer, Connection, Task
from brrr_core.codec import Codec
from brrr_core.errors import ArgumentError, BackendError, BrrrError, EncodeError, NotFoundError, SignatureError

__all__ = ["Board"]

MAX_FORM_BYTES: Final = 256 * 1024
"""The most bytes of a form."""

STATUS: Final = {NotFoundError: 404, ArgumentError: 400, SignatureError: 400, EncodeError: 400, BackendError: 503}
"""The HTTP status of each error class; any other error is 500."""

STATIC: Final = {"board.css": "text/css", "board.js": "text/javascript"}


class Board:
    """Shows topics, dead letters and calls in a browser. It is an ASGI application.

    Enter it while the connection is open, and mount it where you like::

        async with brrr.connect(url) as connection, Board(connection) as board:
            app.mount("/board", board)

    By default it changes nothing, and answers only this machine. It has no login: put it behind your own login.

    Args:
        connection: The connection.
        handlers: The handlers by task name, to show the graph below a call. Those with `replay=True` run.
        codec: The codec of the workers, or its name.
        topics: Topics to show in addition to those that the queue lists; some queues cannot list them.
        allow_changes: Whether visitors may redrive, drop and complete dead letters.
        hosts: The names by which browsers of other machines reach the board: `["ops.example.com"]`.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        handlers: Mapping[str, Task] | None = None,
        codec: str | Codec = "json",
        topics: Iterable[str] = (),
        allow_changes: bool = False,
        hosts: Iterable[str] = (),
    ) -> None:
        tasks = dict(handlers or {})
        self._client = AppConsumer(codec=codec, connection=connection, handlers=tasks)
        self._texts = Texts(connection.mask)
        self._allow_changes = allow_changes
        self._sampler = Sampler(connection.queue, topics)
        calls = CallReader(connection, self._client, tasks, codec, self._texts)
        self._views = Views(
            self._client, connection.queue, self._sampler, calls, self._texts, allow_changes=allow_changes
        )
        self._histories = PageHistories()
        self._streams = Streams(self._sampler, self._histories, self._describe)
        self._sampling: asyncio.Task[None] | None = None
        self._guarded = Guard(self._application(), hosts)

    async def __aenter__(self) -> Self:
        self._sampling = asyncio.create_task(self._sampler.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        sampling, self._sampling = self._sampling, None
        if sampling is not None:
            sampling.cancel()
            await asyncio.wait([sampling])
            if not sampling.cancelled():
                sampling.result()  # raises the error of a bug

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request.

        Raises:
            RuntimeError: The board was not entered.
        """
        if self._sampling is None:
            raise RuntimeError("the board is not open: enter it with `async with` while it serves requests")
        await self._guarded(scope, receive, send)

    def stop(self) -> None:
        """End the streams of open pages. Call it before you stop the server, which otherwise waits up to 20 s."""
        self._streams.stop()

    def _application(self) -> Starlette:
        live = {"topics": self._views.topics, "topic": self._views.topic, "call": self._views.call}
        folder = files("brrr_board") / "static"
        return Starlette(
            routes=[
                Route("/", self._page("topics", self._views.topics), methods=["GET"]),
                Route("/topic", self._page("topic", self._views.topic), methods=["GET"]),
                Route("/letter", self._page("letter", self._views.letter), methods=["GET"]),
                Route("/call", self._page("call", self._views.call), methods=["GET"]),
                Route("/search", self._search, methods=["GET"]),
                Route("/act", self._act, methods=["POST"]),
                *(
                    Route(f"/events/{name}", _Events(self._streams, name, make), methods=["GET"])
                    for name, make in live.items()
                ),
                *(Route(f"/{name}", _static(folder / name, kind), methods=["GET"]) for name, kind in STATIC.items()),
            ],
            exception_handlers={BrrrError: self._failed, SamplingEndedError: _stopped},
        )

    def _page(self, name: str, make: MakeView) -> Callable[[Request], Awaitable[Response]]:
        async def answered(request: Request) -> Response:
            view = await make(request.query_params)
            events = None
            if view.live:
                shown = [each for each in request.query_params.multi_items() if each[0] not in (STATE_PARAMETER, "did")]
                mark = self._histories.of(name, request.query_params).mark(view)
                events = f"events/{name}?{urlencode([*shown, (STATE_PARAMETER, mark)])}"
            return self._shown(request, view, events=events)

        return answered

    def _shown(self, request: Request, view: View, *, events: str | None = None, status: int = 200) -> Response:
        visitor = visitor_of(request)
        html = self._views.render(view, events=events, nonce=request.scope[NONCE], token=token_of(visitor))
        response = HTMLResponse(html, status_code=status)
        if self._allow_changes:
            remember(request, response, visitor)
        return response

    async def _search(self, request: Request) -> Response:
        query = request.query_params
        if found := query.get("hash", "").strip():
            return _redirect("call", hash=found)
        if task := query.get("task", "").strip():
            args, kwargs = read_arguments(query)
            return _redirect("call", hash=(await self._client.status(task)(*args, **kwargs)).call_hash)
        return self._shown(request, View(template="search.html", title="Search"))

    async def _act(self, request: Request) -> Response:
        if not self._allow_changes:
            return PlainTextResponse("Refused: this board changes nothing. Start it with --allow-changes.\n", 403)
        form = await _form_of(request)
        if not is_own_form(request, form.get("token", "")):
            return PlainTextResponse(
                "Refused: the form does not come from this board. Reload the page, and try again.\n", 403
            )
        did = await act(self._client, form)
        self._views.forget()
        await self._sampler.refresh()
        return _redirect("topic", name=form.get("topic", ""), did=did)

    async def _failed(self, request: Request, error: Exception) -> Response:
        status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
        view = View(template="error.html", title="Error", values={"error": self._describe(error)})
        return self._shown(request, view, status=status)

    def _describe(self, error: Exception) -> str:
        return self._texts.whole(str(error))


class _Events:
    """The stream of one kind of page, as an ASGI application."""

    def __init__(self, streams: Streams, name: str, make: MakeView) -> None:
        self._streams = streams
        self._name = name
        self._make = make

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream the changes of a page."""
        await self._streams.serve(self._name, self._make, scope, receive, send)


async def _form_of(request: Request) -> dict[str, str]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise HTTPException(413)
    return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))


def _redirect(page: str, **query: str) -> Response:
    return RedirectResponse(f"{page}?{urlencode(query)}", status_code=303)


def _static(file: Traversable, kind: str) -> Callable[[Request], Awaitable[Response]]:
    content = file.read_bytes()

    async def answered(_request: Request) -> Response:
        return Response(content, media_type=kind)

    return answered


async def _stopped(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse("The board has stopped.\n", status_code=503)
