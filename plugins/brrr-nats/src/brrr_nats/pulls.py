"""How receivers get messages: each asks the topic's consumer for what it can take, and waits for that.

A pull is answered once: with what is there, up to its limit, or with the first messages that come before it expires; a
look with what is there alone. Of a stream with replicas the end of the answer may come first, at once, and the messages
when a majority knows of them. So an end says whether there are messages, and what comes after it is still taken.

A pull cannot be taken back. One whose receiver is gone, cancelled say, is kept for the next receiver of the topic. What
comes while nobody waits for it goes to another receiver, now or within a moment, or else back to the server.
"""

import asyncio
from asyncio import AbstractEventLoop, Future, TimerHandle
from collections.abc import Callable
from typing import Final

from brrr_core.backend import Delivery
from brrr_nats.connection import Connection
from brrr_nats.messages import Reply, Request
from brrr_nats.pulse import Pulse
from brrr_nats.receipts import delivery_of

__all__ = ["Channel", "Pull"]

STATUS: Final = b"NATS/1.0 "
HEARTBEAT: Final = 100
EXPIRED: Final = 408
NO_MORE: Final = 404
"""The end of an answer, as far as there were messages. A pull that may wait and found none expires instead."""

PENDING: Final = "Nats-Pending-Messages"
"""With an end: how many of the messages that were asked for were not sent."""

REST: Final = 0.1
"""Seconds that a receiver waits for the rest of an answer of which messages have come."""

SHELF: Final = 0.25
"""Seconds for which a message that nobody waits for is kept for the next receiver here."""

MOST_LANES: Final = 64
"""Lanes of a topic that are kept while nobody uses them."""

LATE: Final = 2.0
"""Seconds after which a pull that should have expired is not waited for any longer: its leader may have died."""

FORGOTTEN: Final = 60.0
"""Seconds after which nothing is expected any more from a pull that is late."""

MOST_BYTES: Final = 8 * 1024 * 1024
"""Bytes that one pull brings at most, and more than any message has: a server gives up on clients that fall behind."""


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

    def __init__(self, channel: "Channel", limit: int, expires: float, *, look: bool = False) -> None:
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
        """Whether nobody waits for it, and it has brought nothing yet and is still to bring something."""
        if self.turn is not None or self.ended or self.late:
            return False
        return self._left == self.limit and self._loop.time() < self.expires

    @property
    def overdue(self) -> bool:
        """Whether nobody waits for it, and it should have ended long since."""
        return self.turn is None and not self.late and self._loop.time() > self.expires + LATE

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


class Channel:
    """The pulls of one topic, and the lanes that they come on.

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
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._lanes: list[int] = []
        self._pulls: dict[Pull, tuple[Connection, int]] = {}
        self._waiting: dict[Pull, None] = {}
        self._shelf: list[Delivery] = []
        self._clearing: TimerHandle | None = None
        self._closed = False

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not (self._pulls or self._waiting or self._shelf)

    def from_shelf(self, limit: int) -> list[Delivery]:
        """What has come and waits for a receiver."""
        taken, self._shelf = self._shelf[:limit], self._shelf[limit:]
        if not self._shelf:
            self._clear()
        return taken

    def ask(self, connection: Connection, limit: int, until: float) -> Pull:
        """Ask for messages that come until then: by a pull that nobody waits for any more, or a new one."""
        for each in self._pulls:
            if each.overdue:
                each.lose()
        pull = next((each for each in self._pulls if each.untouched and each.limit <= limit), None)
        if pull is None:
            pull = Pull(self, limit, until)
            expires = max(1, int((until - self._loop.time()) * 1e9))
            asked = b'{"batch":%d,"max_bytes":%d,"no_wait":true,"expires":%d}' % (limit, MOST_BYTES, expires)
            self._send(connection, pull, asked)
        self._expect(pull)
        return pull

    def look(self, connection: Connection, limit: int) -> Pull:
        """Ask for messages that are there, however long the server takes to say so."""
        pull = Pull(self, limit, self._loop.time(), look=True)
        self._send(connection, pull, b'{"batch":%d,"max_bytes":%d,"no_wait":true}' % (limit, MOST_BYTES))
        self._expect(pull)
        return pull

    async def wait(self, pull: Pull, until: float) -> list[Delivery]:
        """What a pull brings its receiver. Whatever a receiver that is cancelled had got goes to others.

        Args:
            pull: From `ask` or `look`.
            until: When not to wait any longer for a pull that expires later, by the loop's clock.
        """
        turn = pull.turn
        assert turn is not None  # noqa: S101 - it is the caller's, from `ask`
        if pull.expires <= until:
            timer = self._loop.call_at(pull.expires + LATE, pull.lose)
        else:
            timer = self._loop.call_at(until, pull.wake)
        try:
            await turn
        except BaseException:
            for delivery in self._leave(pull):
                self.stray(delivery)
            raise
        finally:
            timer.cancel()
        return self._leave(pull)

    def delivery(self, reply: Reply) -> tuple[Delivery, bool]:
        """The delivery that a message is, and whether more are ready beside it."""
        return delivery_of(self._topic, reply, self._pulse.tick, self._lease)

    def stray(self, delivery: Delivery) -> None:
        """Give a message to a receiver that waits for another, or keep it for a moment."""
        if self._closed:
            self._give_back(delivery)
            return
        for pull in self._waiting:
            if pull.turn is not None and not pull.turn.done() and not pull.came:
                pull.came.append(delivery)
                pull.wake()
                return
        self._shelf.append(delivery)
        if self._clearing is None:
            self._clearing = self._loop.call_later(SHELF, self._clear)

    def ended(self, pull: Pull) -> None:
        """The server has ended a pull."""
        if pull not in self._pulls:
            return
        connection, lane = self._pulls.pop(pull)
        self._pulse.stop()
        if pull.late or connection is not self._connection or len(self._lanes) >= MOST_LANES:
            connection.close_lane(lane)
        else:
            self._lanes.append(lane)

    def close(self, error: Exception) -> None:
        """End every wait by an error. What is here, and what still comes, is given back."""
        self._closed = True
        self._clear()
        for pull in self._waiting:
            pull.failure = error
            pull.wake()

    def forget(self) -> None:
        """Nobody receives from the topic any more."""
        lanes, self._lanes = self._lanes, []
        for lane in lanes:
            if self._connection is not None:
                self._connection.close_lane(lane)

    def _lane(self, connection: Connection) -> int:
        if connection is not self._connection:
            self._connection, self._lanes = connection, []
        return self._lanes.pop() if self._lanes else connection.open_lane()

    def _send(self, connection: Connection, pull: Pull, body: bytes) -> None:
        lane = self._lane(connection)
        connection.pull(lane, pull, Request(self._subject, body))
        self._pulls[pull] = (connection, lane)
        self._pulse.start()

    def _expect(self, pull: Pull) -> None:
        pull.turn = self._loop.create_future()
        self._waiting[pull] = None

    def _leave(self, pull: Pull) -> list[Delivery]:
        """Nobody waits for the pull from now on. What it has brought."""
        self._waiting.pop(pull, None)
        pull.turn = None
        pull.rest()
        came, pull.came = pull.came, []
        return came

    def _clear(self) -> None:
        if self._clearing is not None:
            self._clearing.cancel()
            self._clearing = None
        shelf, self._shelf = self._shelf, []
        for delivery in shelf:
            self._give_back(delivery)
