"""Pulls: what a receiver asks the topic's consumer for, and what comes of it.

A pull is answered once: with what is there, up to its limit, or with the first messages that come before it expires; a
look with what is there alone. Of a stream with replicas the end of the answer may come first, at once, and the messages
when a majority knows of them. So an end says whether there are messages, and what comes after it is still taken.
"""

import asyncio
from asyncio import AbstractEventLoop, Future, TimerHandle
from typing import Final, Protocol

from brrr_core.backend import Delivery
from brrr_nats.client.protocol import Reply

__all__ = ["Pull"]

STATUS: Final = b"NATS/1.0 "
HEARTBEAT: Final = 100
EXPIRED: Final = 408
NO_MORE: Final = 404
"""The end of an answer, as far as there were messages. A pull that may wait and found none expires instead."""

PENDING: Final = "Nats-Pending-Messages"
"""With an end: how many of the messages that were asked for were not sent."""

REST: Final = 0.1
"""Seconds that a receiver waits for the rest of an answer of which messages have come."""

LATE: Final = 2.0
"""Seconds after which a pull that should have expired is not waited for any longer: its leader may have died."""

FORGOTTEN: Final = 60.0
"""Seconds after which nothing is expected any more from a pull that is late."""


class Sender(Protocol):
    """Where pulls are sent from."""

    def delivery(self, reply: Reply) -> tuple[Delivery, bool]:
        """The delivery that a message is, and whether more are ready beside it."""
        ...

    def stray(self, delivery: Delivery) -> None:
        """A message came that the pull's receiver does not take."""
        ...

    def ended(self, pull: "Pull") -> None:
        """Nothing more comes of a pull."""
        ...


class Pull:
    """One request for messages, and what it brings.

    Attributes:
        limit: How many messages it brings at most.
        expires: When the server ends it, by the loop's clock. A look is ended at once, with what is there.
        came: Messages for its receiver, its own and others.
        look: Whether it is one.
        turn: Done when its receiver is to look; None where nobody waits for it.
        ended: Whether the server has ended it. Messages may still come.
        late: Whether it should have ended.
        status: How it ended: a status of the server's, 0 for a full answer.
        description: What the server said with it.
        failure: What it failed by.
    """

    __slots__ = (
        *("_channel", "_left", "_loop", "_timer", "came", "description", "ended", "expires", "failure", "late"),
        *("limit", "look", "status", "turn"),
    )

    def __init__(self, channel: Sender, limit: int, expires: float, *, look: bool = False) -> None:
        self._channel = channel
        self._loop: AbstractEventLoop = asyncio.get_running_loop()
        self._left = limit
        self._timer: TimerHandle | None = None
        self.limit = limit
        self.expires = expires
        self.look = look
        self.came: list[Delivery] = []
        self.turn: Future[None] | None = None
        self.ended = False
        self.late = False
        self.status = 0
        self.description = ""
        self.failure: Exception | None = None

    @property
    def untouched(self) -> bool:
        """Whether it has brought nothing yet, and is still to bring something."""
        return not self.ended and self._left == self.limit and self._loop.time() < self.expires

    @property
    def lost_at(self) -> float:
        """When it is not waited for any longer, by the loop's clock."""
        return self.expires + LATE

    def take(self, index: int, reply: Reply) -> None:
        """A message came, or how it ends."""
        if reply.lines.startswith(STATUS):
            if reply.status != HEARTBEAT and not self.ended:
                self._learn(reply)
            return
        delivery, more = self._channel.delivery(reply)
        self._left -= 1
        if not self._left:
            self._end(wake=False)
        if self.turn is None or len(self.came) >= self.limit:
            self._channel.stray(delivery)
            return
        self.came.append(delivery)
        if more and self._left > 0:
            self._wake_in(REST)
        else:
            self.wake()

    def fail(self, index: int, error: Exception) -> None:
        """The connection is lost."""
        self.failure = error
        self._end(wake=True)

    def wake(self) -> None:
        """Have its receiver look."""
        self.rest()
        if self.turn is not None and not self.turn.done():
            self.turn.set_result(None)

    def rest(self) -> None:
        """Do not wake anybody for what has come so far."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def lose(self) -> None:
        """Have its receiver look without it: it may be lost. What it brings later goes to others."""
        self.late = True
        self.failure = TimeoutError("the server did not end a request for messages")
        self.wake()
        if not self.ended:
            self._loop.call_later(FORGOTTEN, self._end)

    def _learn(self, reply: Reply) -> None:
        """The server says that it has ended it, why, and mostly how many messages it has sent."""
        missing = self._left - int(reply.headers.get(PENDING, self._left))
        if missing <= 0:
            self.status, self.description = reply.status, reply.description
            self._end(wake=self.status != NO_MORE or self.look)
            return
        # They are on their way, and end it when they are here; unless the leader dies meanwhile.
        self._left = missing
        self.expires = self._loop.time()
        if self.turn is not None and not self.came:
            self.rest()
            self._timer = self._loop.call_later(LATE, self.lose)

    def _end(self, *, wake: bool = False) -> None:
        if not self.ended:
            self.ended = True
            self._channel.ended(self)
        if wake:
            self.wake()
        elif not self.came and self.turn is not None:
            self._wake_in(LATE)  # messages are to come

    def _wake_in(self, seconds: float) -> None:
        self.rest()
        self._timer = self._loop.call_later(seconds, self.wake)
