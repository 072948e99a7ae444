"""Receipts: what a delivery is settled by, and for how long.

A server takes an acknowledgement for the message, whichever of its deliveries it names: one that comes late would
settle what somebody else has by now. So a receipt knows by itself until when it is good, and that it was used. Its
lease began no earlier than the last tick of the queue's pulse before the message was read, however long this process
stood still in between.
"""

from asyncio import AbstractEventLoop, TimerHandle
from enum import Enum
from typing import Final

from brrr_core.backend import Delivery
from brrr_nats.client.protocol import Reply
from brrr_nats.client.request_batch import Batch

__all__ = ["Pulse", "Receipt", "State", "delivery_of"]

HELD: Final = 0.96
"""The part of a lease for which a receipt is good: the rest is for what a message and its settling travel."""

SHORT: Final = 9
"""Words of an acknowledgement's subject without a domain: `$JS.ACK.STREAM.CONSUMER.TIMES.SEQUENCE.…`."""


TICKS: Final = 60
"""Ticks of the pulse in a lease."""

STOOD_STILL: Final = 3
"""Steps between two ticks after which this process must have stood still."""

CATCHING_UP: Final = 4
"""Ticks after that, in which what is read may have lain there meanwhile."""


class State(Enum):
    """What became of a delivery."""

    HELD = "held"
    SETTLED = "settled"


class Receipt:
    """One delivery of one message.

    Attributes:
        reply_to: The subject by which it is settled.
        until: Until when it is good, by the loop's clock.
        state: Whether it was used.
        under_way: What settles it at the moment.
        consumer: Its stream and consumer.
        sequence: The message's number in the stream.
        message: What names the message, in this stream and in any that is made under the name later.
    """

    __slots__ = ("consumer", "message", "reply_to", "sequence", "state", "under_way", "until")

    def __init__(self, reply_to: str, consumer: str, sequence: int, stored: str, until: float) -> None:
        self.reply_to = reply_to
        self.consumer = consumer
        self.sequence = sequence
        self.message = f"{stored}.{sequence}"
        self.until = until
        self.state = State.HELD
        self.under_way: Batch | None = None

    def holds(self, now: float) -> bool:
        """Whether it is still good."""
        return self.state is State.HELD and now < self.until


def delivery_of(topic: str, reply: Reply, begun: float, lease: float) -> tuple[Delivery, bool]:
    """The delivery that a message is, and whether more are ready that were never delivered.

    Args:
        topic: Its topic.
        reply: The message, as it came.
        begun: A time before which its lease did not begin, by the loop's clock.
        lease: In seconds.
    """
    words = reply.reply_to.split(".")
    place = 4 if len(words) == SHORT else 6
    times, sequence, stored = words[place], words[place + 1], words[place + 3]
    consumer = f"{words[place - 2]}.{words[place - 1]}"
    receipt = Receipt(reply.reply_to, consumer, int(sequence), stored, begun + HELD * lease)
    return Delivery(topic, reply.payload, receipt, int(times)), words[place + 4] != "0"


class Pulse:
    """Ticks while messages may come, so that the time for which this process stood still is known.

    Attributes:
        tick: A time, by the loop's clock, before which nothing was sent that is read now. It is the last tick but one:
            the last may come between the end of a standstill and the reading of what came in it.
    """

    def __init__(self, loop: AbstractEventLoop, lease: float) -> None:
        self.tick = 0.0
        self._last = 0.0
        self._loop = loop
        self._step = lease / TICKS
        self._users = 0
        self._rest = 0
        self._catching_up = 0
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        """A message may come from now on."""
        self._users += 1
        if self._timer is None:
            self.tick = self._last = self._loop.time()
            self._catching_up = 0
            self._beat()

    def stop(self) -> None:
        """For one `start`: it will not come any more, but for a little while."""
        self._users -= 1

    def end(self) -> None:
        """Do not tick any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        now = self._loop.time()
        if now - self._last > STOOD_STILL * self._step:
            self._catching_up = CATCHING_UP
        if self._catching_up:
            self._catching_up -= 1
        else:
            self.tick = self._last
        self._last = now
        self._rest = TICKS if self._users else self._rest - 1
        self._timer = self._loop.call_later(self._step, self._beat) if self._rest > 0 else None
