"""How receivers get messages: each sends a pull to its topic's consumer, and waits for what it brings.

A pull cannot be taken back. One whose receiver is gone, cancelled say, is kept for the next receiver of the topic. What
comes while nobody waits for it goes to another receiver, now or within a moment, or else back to the server.
"""

import asyncio
from asyncio import TimerHandle
from collections.abc import Callable
from typing import Final

from brrr_core.backend import Delivery
from brrr_nats.client.connection import Connection
from brrr_nats.client.protocol import Reply, Request
from brrr_nats.queue.leases import Pulse, delivery_of
from brrr_nats.queue.pulls import Pull

__all__ = ["Channel"]

SHELF: Final = 0.25
"""Seconds for which a message that nobody waits for is kept for the next receiver here."""

MOST_LANES: Final = 64
"""Lanes of a topic that are kept while nobody uses them."""

MOST_BYTES: Final = 8 * 1024 * 1024
"""Bytes that one pull brings at most, and more than any message has: a server gives up on clients that fall behind."""


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
        self._left: dict[Pull, None] = {}
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
        now = self._loop.time()
        for each in [each for each in self._left if each.lost_at < now]:
            del self._left[each]
            each.lose()
        pull = next((each for each in self._left if each.untouched and each.limit <= limit), None)
        if pull is None:
            pull = Pull(self, limit, until)
            expires = max(1, int((until - now) * 1e9))
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
            timer = self._loop.call_at(pull.lost_at, pull.lose)
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
        self._left.pop(pull, None)
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
        self._left.pop(pull, None)
        self._waiting[pull] = None

    def _leave(self, pull: Pull) -> list[Delivery]:
        """Nobody waits for the pull from now on. What it has brought."""
        self._waiting.pop(pull, None)
        if not (pull.ended or pull.late):
            self._left[pull] = None
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
