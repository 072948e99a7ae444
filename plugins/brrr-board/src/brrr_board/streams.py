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

__all__ = ["MARK", "MakeView", "Memories", "Streams"]

MOST: Final = 32
"""The most open streams. A further page shows the state at its load, and tries again every three seconds."""

LIFETIME: Final = 20.0
"""Seconds after which a stream ends, so that a server that stops waits no longer for it. The browser opens another."""

KEPT: Final = 64
"""The most pages whose last state is known."""

MARK: Final = "since"
"""The parameter of a stream's address with the state that the page has."""

NOTHING: Final = '{"parts": {}, "order": null}'
"""The message that tells a page that a failure is over."""

MakeView: TypeAlias = Callable[[QueryParams], Awaitable[View]]


class Memory:
    """The last state of one page: when each part has changed, in turns. A mark names a state."""

    def __init__(self) -> None:
        self._epoch = secrets.token_hex(4)  # a mark of another process means nothing here
        self._turn = 0
        self._changed: dict[str, tuple[int, int]] = {}  # the turn and the hash of the text
        self._order: list[str] = []
        self._ordered = 0

    def mark(self, view: View) -> str:
        """Note the state of a page, and return its mark."""
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


class Memories:
    """The memory of each page, by its address."""

    def __init__(self) -> None:
        self._memories: OrderedDict[str, Memory] = OrderedDict()

    def of(self, path: str, query: QueryParams) -> Memory:
        """Return the memory of a page; a new one if it is not known."""
        shown = [(name, value) for name, value in query.multi_items() if name != MARK]
        key = json.dumps([path, sorted(shown)])
        memory = self._memories.setdefault(key, Memory())
        self._memories.move_to_end(key)
        if len(self._memories) > KEPT:
            self._memories.popitem(last=False)
        return memory


class Streams:
    """The open streams of a board.

    Args:
        sampler: Its rounds set the pace.
        memories: The states of the pages.
        describe: Returns the text that a page shows for an error.

    Attributes:
        open: The number of open streams.
    """

    def __init__(self, sampler: Sampler, memories: Memories, describe: Callable[[BrrrError], str]) -> None:
        self.open = 0
        self._sampler = sampler
        self._memories = memories
        self._describe = describe
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """End all streams, and open no others."""
        self._stopped.set()

    async def serve(self, path: str, make: MakeView, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the changes of a page until the visitor leaves, the lifetime is over, or the board stops."""
        if self._stopped.is_set() or self.open >= MOST:
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
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=LIFETIME)
        finally:
            self.open -= 1
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        sent = ended[0]
        if isinstance(sent, Exception) and not isinstance(sent, (OSError, SamplingEndedError)):
            raise sent
        if not isinstance(sent, OSError):  # with it, the visitor has left
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, path: str, make: MakeView, request: Request, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _send_text(send, "retry: 1000\n\n")
        query = request.query_params
        mark = request.headers.get("last-event-id") or query.get(MARK, "")
        failed = False
        while True:
            version = self._sampler.version
            try:
                view = await make(query)
            except BrrrError as error:
                failed = True
                await _send_text(send, f"event: failure\ndata: {json.dumps(self._describe(error))}\n\n")
            else:
                memory = self._memories.of(path, query)
                latest = memory.mark(view)
                news = memory.news(view, mark)
                mark = latest
                if news is not None or failed:
                    await _send_text(send, f"id: {mark}\ndata: {news or NOTHING}\n\n")
                failed = False
            await self._sampler.after(version)


async def _send_text(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
