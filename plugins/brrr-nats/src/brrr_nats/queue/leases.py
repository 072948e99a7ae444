"""Receipts of deliveries, and the detector of stalls that tells when a lease began.

A server accepts any acknowledgement for a message, whichever of its deliveries it names: a late one would settle the
delivery of another receiver. So a receipt itself knows until when it is valid, and whether it was used. Its lease began
no earlier than the detector's `not_before` at the time when the message was read, even if this process was stalled in
between.
"""

from asyncio import AbstractEventLoop, TimerHandle
from enum import Enum
from typing import Final

from brrr_core.backend import Delivery
from brrr_nats.client.protocol import Reply
from brrr_nats.client.request_batch import RequestBatch

__all__ = ["Receipt", "ReceiptState", "StallDetector", "parse_delivery"]

USABLE_LEASE_FRACTION: Final = 0.96
"""Fraction of a lease for which a receipt is valid. The rest is for the travel of the message and its settling."""

ACK_SUBJECT_TOKENS: Final = 9
"""Tokens of an acknowledgement's subject without a domain: `$JS.ACK.STREAM.CONSUMER.TIMES.SEQUENCE.…`."""


TICKS_PER_LEASE: Final = 60
"""Ticks of the stall detector in one lease."""

STALL_STEPS: Final = 3
"""Steps between two ticks from which the process counts as stalled."""

CATCH_UP_TICKS: Final = 4
"""Ticks after a stall in which messages may have arrived during the stall."""


class ReceiptState(Enum):
    """State of a delivery."""

    HELD = "held"
    SETTLED = "settled"


class Receipt:
    """The receipt of one delivery.

    Attributes:
        reply_to: The subject for settling.
        until: The time until which it is valid, by the loop's clock.
        state: Whether it was used.
        settling: The batch that settles it at the moment.
        consumer: The stream and the consumer.
        sequence: The message's number in the stream.
        message_id: A name of the message that also differs from those in a later stream of the same name.
    """

    __slots__ = ("consumer", "message_id", "reply_to", "sequence", "settling", "state", "until")

    def __init__(self, reply_to: str, consumer: str, sequence: int, stored: str, until: float) -> None:
        self.reply_to = reply_to
        self.consumer = consumer
        self.sequence = sequence
        self.message_id = f"{stored}.{sequence}"
        self.until = until
        self.state = ReceiptState.HELD
        self.settling: RequestBatch | None = None

    def is_valid(self, now: float) -> bool:
        """Whether it is unused and its lease lasts."""
        return self.state is ReceiptState.HELD and now < self.until


def parse_delivery(topic: str, reply: Reply, lease_started: float, lease: float) -> tuple[Delivery, bool]:
    """Return the delivery in a message, and whether more messages are ready that were never delivered.

    Args:
        topic: The topic.
        reply: The message.
        lease_started: A time before which its lease did not begin, by the loop's clock.
        lease: Seconds.
    """
    words = reply.reply_to.split(".")
    place = 4 if len(words) == ACK_SUBJECT_TOKENS else 6
    times, sequence, stored = words[place], words[place + 1], words[place + 3]
    consumer = f"{words[place - 2]}.{words[place - 1]}"
    receipt = Receipt(reply.reply_to, consumer, int(sequence), stored, lease_started + USABLE_LEASE_FRACTION * lease)
    return Delivery(topic, reply.payload, receipt, int(times)), words[place + 4] != "0"


class StallDetector:
    """A timer that ticks while messages may arrive, and so notices when this process was stalled.

    Attributes:
        not_before: A time, by the loop's clock, before which no message was sent that is read now. It is the last tick
            but one, as the last tick may come between the end of a stall and the reading of messages that arrived in
            it.
    """

    def __init__(self, loop: AbstractEventLoop, lease: float) -> None:
        self.not_before = 0.0
        self._last = 0.0
        self._loop = loop
        self._step = lease / TICKS_PER_LEASE
        self._users = 0
        self._ticks_left = 0
        self._catching_up = 0
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        """Begin to tick for one pull."""
        self._users += 1
        if self._timer is None:
            self.not_before = self._last = self._loop.time()
            self._catching_up = 0
            self._tick()

    def stop(self) -> None:
        """End one `start`. The ticks go on for one lease."""
        self._users -= 1

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        now = self._loop.time()
        if now - self._last > STALL_STEPS * self._step:
            self._catching_up = CATCH_UP_TICKS
        if self._catching_up:
            self._catching_up -= 1
        else:
            self.not_before = self._last
        self._last = now
        self._ticks_left = TICKS_PER_LEASE if self._users else self._ticks_left - 1
        self._timer = self._loop.call_later(self._step, self._tick) if self._ticks_left > 0 else None
