"""One connection to one server, which never reconnects: nats-py would send requests again whose callers gave up.

All requests share one inbox. Its callback hands each reply to its handler, without a task for each request.
"""

import asyncio
import logging
import re
from asyncio import Task
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any, Final, Protocol

from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from brrr_core.backend import Gate, start_task
from brrr_nats.client.errors import DeniedError, NoReplyError
from brrr_nats.client.messages import NO_HEADERS, Reply, Request
from brrr_nats.connect_options import EVENTS

__all__ = ["Connection", "ReplyHandler"]

CLOSE_TIMEOUT_SECONDS: Final = 1.0
"""Seconds that closing waits for bytes that are still being sent."""

FLUSH_TIMEOUT_SECONDS: Final = 10.0
"""Seconds for which an opening waits until the server confirms the inbox."""

PERMISSION_ERROR: Final = re.compile(r"permissions violation for (publish|subscription) to \"([^\"]+)\"", re.IGNORECASE)

_log = logging.getLogger("brrr.backend")


class ReplyHandler(Protocol):
    """A receiver of replies: a batch of requests, or a pull."""

    def take(self, index: int, reply: Reply) -> None:
        """Handle the reply to the request at this index."""
        ...

    def fail(self, index: int, error: Exception) -> None:
        """Handle the failure of the request at this index: no (further) reply will come."""
        ...

    def subject_of(self, index: int) -> str:
        """Return the subject of the request at this index."""
        ...


class _PullInbox:
    """A subscription for the messages of one pull at a time.

    The server sends such messages with their own subjects, so only the subscription tells their pull.
    """

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.handler: ReplyHandler | None = None
        self.subscription: Subscription | None = None

    async def take(self, message: Msg) -> None:
        if self.handler is not None:
            self.handler.take(0, Reply(message.data, message.headers or NO_HEADERS, message.reply))

    async def drain(self) -> None:
        if self.subscription is not None:
            await self.subscription.drain()  # type: ignore[no-untyped-call]  # nats-py's annotation is missing


@dataclass(eq=False)
class _Listener:
    """A function to call for each message of a subject, and its subscription once it is sent."""

    on_message: Callable[[], None]
    subscription: Subscription | None = None


class Connection:
    """A client of nats-py, and the requests and pulls that wait for its messages.

    Args:
        on_lost: Called once when the connection is lost or closed.

    Attributes:
        client: The client.
        cause: The reason for the loss, or None.
        is_orphaned: Whether other code cancelled the tasks, for example when the event loop shuts down.
    """

    def __init__(self, on_lost: Callable[["Connection"], None]) -> None:
        self._replies: dict[str, tuple[ReplyHandler, int]] = {}
        self._listeners: dict[str, _Listener] = {}
        self._may_listen = True
        self.client = Client()
        self.client.msg_class = self._make_message  # type: ignore[assignment]  # a factory instead of a class
        self.cause: Exception | None = None
        self.is_orphaned = False
        self._on_lost = on_lost
        self._error: Exception | None = None
        self._error_cb: Callable[..., Awaitable[None]] | None = None
        self._closed_cb: Callable[..., Awaitable[None]] | None = None
        self._inboxes = ""  # the beginning of all inboxes
        self._prefix = ""
        self._next = 0
        self._pull_inboxes: list[_PullInbox] = []
        self._free_inboxes: list[_PullInbox] = []
        self._lost = asyncio.Event()
        self._guard: Task[None] | None = None
        self._sending = Gate()

    async def open(self, server: str, options: dict[str, Any]) -> None:
        """Log in and subscribe to the replies, with the given options of nats-py.

        Raises:
            NoReplyError: The connection is lost, or the inbox is not permitted.
            Exception: An error of nats-py, TLS or the socket.
        """
        options = {name: _guarded(each) if name in EVENTS else each for name, each in options.items()}
        self._error_cb, self._closed_cb = options.pop("error_cb", None), options.pop("closed_cb", None)
        try:
            await self.client.connect(
                server,
                error_cb=self._on_error,
                closed_cb=self._on_closed,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                max_outstanding_pings=1,
                pending_size=0,  # publishing never waits
                skip_subject_validation=True,
                **options,
            )
        except nats_errors.NoServersError as error:
            raise self._error or error from error
        # nats-py does not tell whether its tasks were cancelled; with them, this one is.
        self._guard = start_task(self._wait_lost(), name="brrr watches a connection")
        self._guard.add_done_callback(self._on_guard_end)
        inbox = self.client.new_inbox()
        self._inboxes, self._prefix = inbox.rpartition(".")[0], f"{inbox}."
        await self.client.subscribe(f"{self._prefix}*", cb=self._drop_late_reply)  # pyright: ignore[reportUnknownMemberType]
        await self._flush(FLUSH_TIMEOUT_SECONDS)
        self._check_open()

    async def send(self, handler: ReplyHandler, requests: Sequence[Request]) -> list[str]:
        """Send requests. The handler gets each reply with the index of its request. Return their inboxes.

        Raises:
            NoReplyError: The connection is lost; nothing was sent.
        """
        self._check_open()
        first, self._next = self._next, self._next + len(requests)
        inboxes = [f"{self._prefix}{number}" for number in range(first, self._next)]
        self._replies.update(zip(inboxes, zip(repeat(handler), range(len(requests))), strict=True))
        await self._publish(zip(inboxes, requests, strict=True))
        return inboxes

    def send_again(self, requests: Iterable[tuple[str, Request]]) -> None:
        """Send requests again with their inboxes; the first reply counts."""
        self._sending.start(self._publish(requests), name="brrr sends messages again")

    def send_only(self, request: Request) -> None:
        """Send a message that has no reply."""
        self._sending.start(self.client.publish(request.subject, request.payload), name="brrr sends a message")

    def forget(self, inboxes: Iterable[str]) -> None:
        """Stop waiting for replies."""
        for inbox in inboxes:
            self._replies.pop(inbox, None)

    async def pull(self, handler: ReplyHandler, request: Request) -> Callable[[], None]:
        """Request messages. Return a function that lets the next pull use the same inbox.

        The handler also gets messages that come after that, until the next pull.

        Raises:
            NoReplyError: The connection is lost.
        """
        self._check_open()
        if self._free_inboxes:
            inbox = self._free_inboxes.pop()
        else:
            inbox = _PullInbox(f"{self._prefix}pull.{len(self._pull_inboxes)}")
            self._pull_inboxes.append(inbox)
            inbox.subscription = await self.client.subscribe(inbox.subject, cb=inbox.take)  # pyright: ignore[reportUnknownMemberType]
        inbox.handler = handler
        await self.client.publish(request.subject, request.payload, inbox.subject)
        return partial(self._free_inboxes.append, inbox)

    async def subscribe(self, subject: str, on_message: Callable[[], None]) -> None:
        """Call a function for each message of a subject, until `unsubscribe`. A second function has no effect.

        The subscription is in force once `confirm` returns True. On a lost connection, nothing happens.
        """
        if subject in self._listeners or not self._may_listen:
            return
        listener = self._listeners[subject] = _Listener(on_message)
        with suppress(nats_errors.Error):
            listener.subscription = await self.client.subscribe(subject)  # pyright: ignore[reportUnknownMemberType]
        if self._listeners.get(subject) is not listener:
            self._end_listener(listener)

    def unsubscribe(self, subject: str) -> None:
        """End a subscription. If there is none, do nothing."""
        listener = self._listeners.pop(subject, None)
        if listener is not None:
            self._end_listener(listener)

    async def confirm(self, timeout: float) -> bool:
        """Wait until the server has confirmed all subscriptions. Return False if it refuses them, or is not there."""
        return await self._flush(timeout) and self._may_listen and self.cause is None

    async def end_pulls(self) -> None:
        """End the subscriptions of pulls, and receive the messages that the server sent before."""
        with suppress(TimeoutError, nats_errors.Error):
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                drains = [inbox.drain() for inbox in self._pull_inboxes]
                await asyncio.gather(*drains)

    def end(self, cause: Exception) -> None:
        """Mark the connection as lost, and fail everything that waits on it."""
        if self.cause is not None:
            return
        self.cause = cause
        self._lost.set()
        for handler, index in self._waiting():
            handler.fail(index, NoReplyError(cause, sent=True))
        self._replies.clear()
        self._on_lost(self)

    async def close(self) -> None:
        """Send what waits for the socket, if the system takes it in time, and close the socket."""
        self.end(nats_errors.ConnectionClosedError())
        await self._sending.close(CLOSE_TIMEOUT_SECONDS)
        with suppress(Exception):  # the connection is gone, or was never begun
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self.client.close()
        if self._guard is not None:
            await asyncio.wait({self._guard})

    def _waiting(self) -> list[tuple[ReplyHandler, int]]:
        return [*self._replies.values(), *((each.handler, 0) for each in self._pull_inboxes if each.handler)]

    def _check_open(self) -> None:
        if self.cause is None and not self.client.is_connected:
            self.end(ConnectionResetError("it closed the connection"))
        if self.cause is not None:
            raise NoReplyError(self.cause, sent=False)

    async def _publish(self, requests: Iterable[tuple[str, Request]]) -> None:
        publish = self.client.publish
        for inbox, (subject, payload, headers) in requests:
            await publish(subject, payload, inbox, headers)

    async def _flush(self, timeout: float) -> bool:
        """Wait until the server has read what was sent. Return False if the connection is lost, or at the timeout."""
        # Only cancelled when the connection is lost: nats-py closes it if a pong comes for a flush that was cancelled.
        flushing = self._sending.start(self.client.flush(), name="brrr waits for the server")
        waiting = {flushing} if self._guard is None else {flushing, self._guard}
        await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if self.cause is not None:
            flushing.cancel()
        return flushing.done() and not flushing.cancelled() and flushing.exception() is None

    def _end_listener(self, listener: _Listener) -> None:
        if listener.subscription is not None and self.cause is None:
            self._sending.start(listener.subscription.unsubscribe(), name="brrr unsubscribes")

    async def _wait_lost(self) -> None:
        await self._lost.wait()

    def _on_guard_end(self, guard: Task[None]) -> None:
        if guard.cancelled() and self.cause is None:
            self.is_orphaned = True
            self.end(ConnectionAbortedError("its tasks were cancelled from outside"))

    def _make_message(
        self, *, subject: str, reply: str, data: bytes, headers: dict[str, str] | None, **more: Any
    ) -> Msg | None:
        """Pass on a reply or a hint when nats-py makes its message, and return None. nats-py handles other messages.

        This saves a queue, a turn of the loop and a coroutine for each reply.
        """
        waiting = self._replies.pop(subject, None)
        if waiting is None:
            listener = self._listeners.get(subject)
            if listener is not None:
                listener.on_message()
                return None
            return Msg(subject=subject, reply=reply, data=data, headers=headers, **more)
        handler, index = waiting
        handler.take(index, Reply(data, headers or NO_HEADERS))
        return None

    async def _drop_late_reply(self, message: Msg) -> None:
        """Drop a reply that no handler waits for."""

    async def _on_error(self, error: Exception) -> None:
        denied = PERMISSION_ERROR.search(str(error))
        if denied is None:
            self._error = error
        elif denied[1].lower() == "subscription" and denied[2].lower().startswith(self._inboxes.lower()):
            self.end(DeniedError(f"{self._prefix}*"))  # no reply can come
        elif denied[1].lower() == "subscription":
            self._may_listen = False
        else:
            self._deny(denied[2])
        if self._error_cb is not None:
            await self._error_cb(error)

    def _deny(self, subject: str) -> None:
        """Fail all requests for a subject that is not permitted. The error names it in lower case, and no request."""
        for handler, index in self._waiting():
            asked = handler.subject_of(index)
            if asked.lower() == subject.lower():
                handler.fail(index, DeniedError(asked))

    async def _on_closed(self) -> None:
        self.end(self.client.last_error or self._error or nats_errors.UnexpectedEOF())
        if self._closed_cb is not None:
            await self._closed_cb()


def _guarded(callback: Callable[..., Awaitable[None]]) -> Callable[..., Coroutine[Any, Any, None]]:
    """Return a callback of the program that logs its errors. They would end the tasks of nats-py."""

    async def call(*arguments: object) -> None:
        try:
            await callback(*arguments)
        except Exception:  # noqa: BLE001 - of any kind, and none of them is ours
            _log.exception("A callback of connect_options failed.")

    return call
