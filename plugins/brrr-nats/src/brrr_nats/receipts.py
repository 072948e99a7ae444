"""Receipts: what a delivery is settled by, and for how long.

A server takes an acknowledgement for the message, whichever of its deliveries it names: one that comes late would
settle what somebody else has by now. So a receipt knows by itself until when it is good, and that it was used. Its
lease began no earlier than the last tick of the queue's pulse before the message was read, however long this process
stood still in between.
"""

from enum import Enum
from typing import Final

from brrr_core.backend import Delivery
from brrr_nats.batches import Batch
from brrr_nats.messages import Reply

__all__ = ["Receipt", "State", "delivery_of"]

HELD: Final = 0.96
"""The part of a lease for which a receipt is good: the rest is for what a message and its settling travel."""

SHORT: Final = 9
"""Words of an acknowledgement's subject without a domain: `$JS.ACK.STREAM.CONSUMER.TIMES.SEQUENCE.…`."""


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
