"""Server-sent events: an open page receives the parts that have changed."""

import asyncio
import json
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from brrr_board.sampling import Sampler, SamplingEndedError
from brrr_board.views import View
from brrr_core.errors import BrrrError

__all__ = ["STATE_PARAMETER", "MakeView", "PageHistories", "Streams"]

MAX_STREAMS: Final = 32
"""The most open streams. A further page shows its state at load time, and tries again every three seconds."""

STREAM_SECONDS: Final = 20.0
"""Seconds after which a stream ends and the browser opens another. A stopping server waits at most this long."""

MAX_PAGES: Final = 64
"""The most pages whose history is kept."""

STATE_PARAMETER: Final = "since"
"""The query parameter of a stream that names the state of the page."""

NO_CHANGES: Final = '{"parts": {}, "order": null}'
"""The message that tells a page that a failure is over."""

MakeView: TypeAlias = Callable[[QueryParams], Awaitable[View]]


class PageHistory:
    """The history of one page: the turn in which each part last changed. A mark names a state of the page."""

    def __init__(self) -> None:
        self._epoch = secrets.token_hex(4)  # marks of another process are not valid here
        self._turn = 0
        self._changed: dict[str, tuple[int, int]] = {}  # the turn and the hash of the text
        self._order: list[str] = []
        self._ordered = 0

    def mark(self, view: View) -> str:
        """Record the current state of the page, and return its mark."""
        self._turn += 1
        html = {**view.parts, **view.rows}
        before, self._changed = self._changed, {}
        for name, text in html.items():
            turn, digest = before.get(name, (0, 0))
            new = hash(str(text))
            self._changed[name] = (turn, digest) if turn and digest == new else (self._turn, new)
        if (order := list(view.rows)) != self._order:
            self._order, self._ordered = order, self._turn
        return f"{self._epoch}-{self._turn}"

    def news(self, view: View, mark: str) -> str | None:
        """Return the changes of a page since the state `mark`, as JSON; None if nothing has changed.

        `mark` must have been called with the view before.
        """
        epoch, _, turn = mark.partition("-")
        since = int(turn) if epoch == self._epoch and turn.isdecimal() else 0
        html = {**view.parts, **view.rows}
        parts = {name: str(html[name]) for name, (changed, _) in self._changed.items() if changed > since}
        order = self._order if self._ordered > since else None
        return None if not parts and order is None else json.dumps({"parts": parts, "order": order})


class PageHistories:
    """The histories of pages, by path and query."""

    def __init__(self) -> None:
        self._histories: OrderedDict[str, PageHistory] = OrderedDict()

    def of(self, path: str, query: QueryParams) -> PageHistory:
        """Return the history of a page, created if necessary."""
        shown = [(name, value) for name, value in query.multi_items() if name != STATE_PARAMETER]
        key = json.dumps([path, sorted(shown)])
        history = self._histories.setdefault(key, PageHistory())
        self._histories.move_to_end(key)
        if len(self._histories) > MAX_PAGES:
            self._histories.popitem(last=False)
        return history


class Streams:
    """The open streams of a board.

    Args:
        sampler: Its rounds set the pace.
        histories: The histories of the pages.
        describe: Returns the text that a page shows for an error.

    Attributes:
        open: The number of open streams.
    """

    def __init__(self, sampler: Sampler, histories: PageHistories, describe: Callable[[BrrrError], str]) -> None:
        self.open = 0
        self._sampler = sampler
        self._histories = histories
        self._describe = describe
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """End all streams, and open no others."""
        self._stopped.set()

    async def serve(self, path: str, make: MakeView, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the changes of a page until the visitor leaves, `STREAM_SECONDS` have passed, or the board stops."""
        if self._stopped.is_set() or self.open >= MAX_STREAMS:
            refusal = PlainTextResponse("Too many open pages.\n", status_code=503, headers={"retry-after": "10"})
            await refusal(scope, receive, send)
            return
        self.open += 1
        tasks = [
            asyncio.create_task(self._send(path, make, Request(scope), send)),
            asyncio.create_task(_left(receive)),
            asyncio.create_task(_until(self._stopped)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=STREAM_SECONDS)
        finally:
            self.open -= 1
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        sent = ended[0]
        if isinstance(sent, Exception) and not isinstance(sent, (OSError, SamplingEndedError)):
            raise sent
        if not isinstance(sent, OSError):  # after an OSError, the visitor has left
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, path: str, make: MakeView, request: Request, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _send_text(send, "retry: 1000\n\n")
        query = request.query_params
        mark = request.headers.get("last-event-id") or query.get(STATE_PARAMETER, "")
        failed = False
        while True:
            version = self._sampler.version
            try:
                view = await make(query)
            except BrrrError as error:
                failed = True
                await _send_text(send, f"event: failure\ndata: {json.dumps(self._describe(error))}\n\n")
            else:
                history = self._histories.of(path, query)
                latest = history.mark(view)
                news = history.news(view, mark)
                mark = latest
                if news is not None or failed:
                    await _send_text(send, f"id: {mark}\ndata: {news or NO_CHANGES}\n\n")
                failed = False
            await self._sampler.after(version)


async def _send_text(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
