"""How receivers get messages: each asks the topic's consumer for what it can take, and waits for that.

A pull is answered once: with what is there, up to its limit, or with the first messages that come before it expires. It
cannot be taken back. One whose receiver is gone, cancelled say, is kept for the next receiver of the topic; what it
brings while nobody waits goes to another receiver that waits, or else back to the server at once.
"""

import asyncio
from asyncio import AbstractEventLoop, Future, TimerHandle
from collections.abc import Callable
from typing import Final

from brrr_core.backend import Delivery
from brrr_nats.connection import Connection
from brrr_nats.messages import Reply, Request
from brrr_nats.receipts import delivery_of

__all__ = ["Channel", "Pull", "Pulse"]

STATUS: Final = b"NATS/1.0 "
HEARTBEAT: Final = 100

REST: Final = 0.1
"""Seconds that a receiver waits for the rest of an answer whose first message has come."""

LATE: Final = 2.0
"""Seconds after which a pull that should have expired is not waited for any longer: its leader may have died."""

FORGOTTEN: Final = 60.0
"""Seconds after which nothing is expected any more from a pull that is late."""

MOST_BYTES: Final = 8 * 1024 * 1024
"""Bytes that one pull brings at most, and more than any message has: a server gives up on clients that fall behind."""

TICKS: Final = 30
"""Ticks of the pulse in a lease."""


class Pulse:
    """Ticks while messages may come, so that the time for which this process stood still is known.

    Attributes:
        tick: The last tick, by the loop's clock. What is read now was not sent before it.
    """

    def __init__(self, loop: AbstractEventLoop, lease: float) -> None:
        self.tick = 0.0
        self._loop = loop
        self._step = lease / TICKS
        self._users = 0
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        """A message may come from now on."""
        self._users += 1
        if self._timer is None:
            self._beat()

    def stop(self) -> None:
        """For one `start`: it will not come any more."""
        self._users -= 1
        if not self._users and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        self.tick = self._loop.time()
        self._timer = self._loop.call_later(self._step, self._beat)


class Pull:
    """One request for messages, and what it brings.

    Attributes:
        limit: How many messages it brings at most.
        came: Those that have come, and that no receiver has returned yet.
        turn: Done when its receiver is to look; None where nobody waits for it.
        expires: When the server ends it, by the loop's clock.
        ended: Whether it brings no more.
        late: Whether it should have ended.
        status: How it ended: a status of the server's, 0 for a full answer.
        failure: What it failed by.
    """

    __slots__ = (
        *(
            "_channel",
            "_left",
            "_loop",
            "_timer",
            "came",
            "description",
            "ended",
            "expires",
            "failure",
            "late",
            "limit",
        ),
        *("status", "turn"),
    )

    def __init__(self, channel: "Channel", limit: int, expires: float) -> None:
        self._channel = channel
        self._loop: AbstractEventLoop = asyncio.get_running_loop()
        self._left = limit
        self._timer: TimerHandle | None = None
        self.limit = limit
        self.expires = expires
        self.came: list[Delivery] = []
        self.turn: Future[None] | None = None
        self.ended = False
        self.late = False
        self.status = 0
        self.description = ""
        self.failure: Exception | None = None

    def take(self, index: int, reply: Reply) -> None:
        """A message came, or how it ends."""
        if reply.lines.startswith(STATUS):
            if reply.status != HEARTBEAT:
                self.status, self.description = reply.status, reply.description
                self._end()
            return
        self._left -= 1
        if not self._left:
            self._end(wake=False)
        delivery = self._channel.delivery(reply)
        if self.turn is None:
            self._channel.stray(delivery)
        else:
            self.give(delivery)

    def fail(self, index: int, error: Exception) -> None:
        """The connection is lost."""
        self.failure = error
        self._end()

    def give(self, delivery: Delivery) -> None:
        """Have its receiver return a message."""
        self.came.append(delivery)
        if self.ended:
            self.wake()
        elif self._timer is None:
            self._timer = self._loop.call_later(REST, self.wake)

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
        self._loop.call_later(FORGOTTEN, self._end)

    def _end(self, *, wake: bool = True) -> None:
        if not self.ended:
            self.ended = True
            self._channel.ended(self)
        if wake:
            self.wake()


class Channel:
    """The pulls of one topic.

    Args:
        topic: Its name.
        subject: Where its consumer is asked.
        lease: Seconds that a message is leased for.
        pulse: Knows what a message's lease did not begin before.
        give_back: Gives back what nobody here takes.
    """

    def __init__(
        self, topic: str, subject: str, lease: float, pulse: Pulse, give_back: Callable[[Delivery], None]
    ) -> None:
        self._topic = topic
        self._subject = subject
        self._lease = lease
        self._pulse = pulse
        self._give_back = give_back
        self._pulls: dict[Pull, tuple[Connection, int]] = {}

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._pulls

    def ask(self, connection: Connection, limit: int, wait: float) -> Pull:
        """Ask for messages: a pull that nobody waits for any more, or a new one. `wait` is in seconds."""
        loop = asyncio.get_running_loop()
        pull = self._spare(limit) if wait else None
        if pull is None:
            pull = Pull(self, limit, loop.time() + wait)
            expires = b',"expires":%d' % int(wait * 1e9) if wait else b""
            body = b'{"batch":%d,"max_bytes":%d,"no_wait":true%b}' % (limit, MOST_BYTES, expires)
            request = Request(self._subject, body)
            self._pulls[pull] = (connection, connection.pull(pull, request))
            self._pulse.start()
        pull.turn = loop.create_future()
        return pull

    async def wait(self, pull: Pull, until: float, patience: float) -> list[Delivery]:
        """What a pull brings its receiver. Whatever a receiver that is cancelled had got goes to others.

        Args:
            pull: From `ask`.
            until: When not to wait any longer, by the loop's clock.
            patience: Seconds beyond the pull's end in which the server is to tell of it.
        """
        turn = pull.turn
        assert turn is not None  # noqa: S101 - it is the caller's, from `ask`
        loop = asyncio.get_running_loop()
        if pull.expires <= until:
            timer = loop.call_at(pull.expires + max(LATE, patience), pull.lose)
        else:
            timer = loop.call_at(until, pull.wake)
        try:
            await turn
        except BaseException:
            came = self._leave(pull)
            for delivery in came:
                self.stray(delivery)
            raise
        finally:
            timer.cancel()
        return self._leave(pull)

    def delivery(self, reply: Reply) -> Delivery:
        """The delivery that a message is."""
        return delivery_of(self._topic, reply, self._pulse.tick, self._lease)

    def stray(self, delivery: Delivery) -> None:
        """Give a message to a receiver that waits for another, or back."""
        for pull in self._pulls:
            if pull.turn is not None and not pull.turn.done() and not pull.came:
                pull.came.append(delivery)
                pull.wake()
                return
        self._give_back(delivery)

    def ended(self, pull: Pull) -> None:
        """A pull brings no more."""
        if pull not in self._pulls:
            return
        connection, lane = self._pulls.pop(pull)
        connection.leave(lane, clear=not pull.late)
        self._pulse.stop()

    def close(self, error: Exception) -> None:
        """End every wait by an error. What still comes is given back."""
        for pull in list(self._pulls):
            if pull.turn is not None:
                pull.failure = error
                pull.wake()

    def _spare(self, limit: int) -> Pull | None:
        for pull in self._pulls:
            if pull.turn is None and not pull.late and pull.limit <= limit:
                return pull
        return None

    def _leave(self, pull: Pull) -> list[Delivery]:
        """Nobody waits for the pull from now on. What it has brought."""
        pull.turn = None
        pull.rest()
        came, pull.came = pull.came, []
        return came
