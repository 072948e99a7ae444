"""Who waits for what a connection brings: replies to requests, and messages on lanes."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from brrr_nats.client.errors import DeniedError, Lost
from brrr_nats.client.protocol import Message, Reply, Request

__all__ = ["REPLIES", "Owner", "Waiters"]

REPLIES: Final = 1
"""The number of the subscription that replies come on. Those of lanes are higher."""


class Owner(Protocol):
    """Who asked."""

    def take(self, index: int, reply: Reply) -> None:
        """A reply came, to the request of that index."""
        ...

    def fail(self, index: int, error: Exception) -> None:
        """There will be no (other) reply to the request of that index."""
        ...


class _Waiter(NamedTuple):
    owner: Owner
    place: int
    subject: str

    def take(self, message: Message) -> None:
        self.owner.take(self.place, Reply(message.payload, message.lines, message.reply_to.decode()))

    def fail(self, error: Exception) -> None:
        self.owner.fail(self.place, error)


class Waiters:
    """All that wait on one connection."""

    def __init__(self) -> None:
        self._replies: dict[bytes, _Waiter] = {}
        self._lanes: dict[int, _Waiter] = {}
        self._next = 0
        self._last_lane = REPLIES

    def __len__(self) -> int:
        return len(self._replies)

    @property
    def lanes(self) -> list[int]:
        """The lanes that somebody has asked on."""
        return list(self._lanes)

    def add(self, owner: Owner, requests: Sequence[Request]) -> list[bytes]:
        """Note who waits for replies. Their tokens, which the subjects of the replies end with."""
        first = self._next + 1
        self._next += len(requests)
        added = {b"%x" % (first + at): _Waiter(owner, at, request.subject) for at, request in enumerate(requests)}
        self._replies |= added
        return list(added)

    def forget(self, token: bytes) -> None:
        """Nobody waits for the reply any more."""
        self._replies.pop(token, None)

    def new_lane(self) -> int:
        """The number of a lane that there was not before."""
        self._last_lane += 1
        return self._last_lane

    def put_on(self, lane: int, owner: Owner, subject: str) -> None:
        """Note who waits for messages on a lane, and by what subject he asked."""
        self._lanes[lane] = _Waiter(owner, 0, subject)

    def close(self, lane: int) -> bool:
        """Forget a lane; whether anybody had asked on it."""
        return self._lanes.pop(lane, None) is not None

    def take(self, message: Message, token: bytes) -> None:
        """Give a message to whoever waits for it."""
        waiter = self._replies.get(token) if message.number == REPLIES else self._lanes.get(message.number)
        if waiter is not None:
            waiter.take(message)

    def deny(self, subject: str) -> None:
        """Tell everybody who has asked by a subject that it is not permitted. It may be in lower case."""
        for token, waiter in list(self._replies.items()):
            if waiter.subject.lower() == subject.lower():
                del self._replies[token]
                waiter.fail(DeniedError(waiter.subject))
        for waiter in list(self._lanes.values()):
            if waiter.subject.lower() == subject.lower():
                waiter.fail(DeniedError(waiter.subject))

    def end(self, cause: Exception) -> None:
        """Tell everybody that nothing will come any more."""
        waiting = [*self._replies.values(), *self._lanes.values()]
        self._replies, self._lanes = {}, {}
        for waiter in waiting:
            waiter.fail(Lost(cause, sent=True))
