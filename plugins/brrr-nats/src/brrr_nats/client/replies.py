"""Routing of messages on one connection to the requests and pulls that wait for them."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from brrr_nats.client.errors import DeniedError, NoReplyError
from brrr_nats.client.protocol import Message, Reply, Request

__all__ = ["REPLIES", "ReplyHandler", "ReplyRouter"]

REPLIES: Final = 1
"""The number of the subscription for replies. Subscriptions for pulls have higher numbers."""


class ReplyHandler(Protocol):
    """A receiver of replies, such as a batch of requests or a pull."""

    def take(self, index: int, reply: Reply) -> None:
        """Handle the reply to the request at this index."""
        ...

    def fail(self, index: int, error: Exception) -> None:
        """Handle the failure of the request at this index: no (further) reply will come."""
        ...


class _Pending(NamedTuple):
    handler: ReplyHandler
    position: int
    subject: str

    def take(self, message: Message) -> None:
        self.handler.take(self.position, Reply(message.payload, message.raw_headers, message.reply_to.decode()))

    def fail(self, error: Exception) -> None:
        self.handler.fail(self.position, error)


class ReplyRouter:
    """The waiting requests and pulls of one connection."""

    def __init__(self) -> None:
        self._replies: dict[bytes, _Pending] = {}
        self._subscriptions: dict[int, _Pending] = {}
        self._next = 0
        self._last_subscription = REPLIES

    def __len__(self) -> int:
        return len(self._replies)

    @property
    def subscriptions(self) -> list[int]:
        """The subscriptions that pulls use."""
        return list(self._subscriptions)

    def add(self, handler: ReplyHandler, requests: Sequence[Request]) -> list[bytes]:
        """Register a handler for the replies to requests. Return their tokens, the last part of the reply subjects."""
        first = self._next + 1
        self._next += len(requests)
        added = {b"%x" % (first + at): _Pending(handler, at, request.subject) for at, request in enumerate(requests)}
        self._replies |= added
        return list(added)

    def forget(self, token: bytes) -> None:
        """Stop waiting for the reply with this token."""
        self._replies.pop(token, None)

    def new_subscription(self) -> int:
        """Return an unused subscription number."""
        self._last_subscription += 1
        return self._last_subscription

    def attach(self, subscription: int, handler: ReplyHandler, subject: str) -> None:
        """Register a handler for the messages of a subscription. `subject` is the subject of its request."""
        self._subscriptions[subscription] = _Pending(handler, 0, subject)

    def remove(self, subscription: int) -> bool:
        """Remove a subscription. Return whether a handler was attached to it."""
        return self._subscriptions.pop(subscription, None) is not None

    def take(self, message: Message, token: bytes) -> None:
        """Pass a message to its handler, if one still waits."""
        pending = self._replies.get(token) if message.number == REPLIES else self._subscriptions.get(message.number)
        if pending is not None:
            pending.take(message)

    def deny(self, subject: str) -> None:
        """Fail all requests for a subject that is not permitted. The server may name it in lower case."""
        for token, pending in list(self._replies.items()):
            if pending.subject.lower() == subject.lower():
                del self._replies[token]
                pending.fail(DeniedError(pending.subject))
        for pending in list(self._subscriptions.values()):
            if pending.subject.lower() == subject.lower():
                pending.fail(DeniedError(pending.subject))

    def fail_all(self, cause: Exception) -> None:
        """Fail everything that waits: the connection is lost."""
        all_pending = [*self._replies.values(), *self._subscriptions.values()]
        self._replies, self._subscriptions = {}, {}
        for pending in all_pending:
            pending.fail(NoReplyError(cause, sent=True))
