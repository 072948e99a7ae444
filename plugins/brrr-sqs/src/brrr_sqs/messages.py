"""Messages as this queue sends and receives them, and the receipts of those that it holds.

Beside its body a message has attributes, all of them brrr's own:

    brrr.encoding   how the body is written (`bodies`)
    brrr.due        unix seconds before which it is not to be run, where SQS cannot delay it for so long
    brrr.attempts   its deliveries before it was sent anew
    brrr.attempt, brrr.buried, brrr.reason    of a dead letter: in which attempt, when (unix seconds), and why
"""

import asyncio
import time
from asyncio import Task
from collections.abc import Mapping
from math import ceil
from typing import Any, Final, NamedTuple

from brrr_core.backend import DeadLetter, Delivery
from brrr_sqs.batches import Entry
from brrr_sqs.bodies import MESSAGE_LIMIT, Attributes, carried, number, read_body, read_number, read_text, size, text

__all__ = ["LONGEST_DELAY", "RECEIVED", "Receipt", "Received", "dead_letter", "letter", "message", "received"]

LONGEST_DELAY: Final = 900
"""Seconds that SQS delays a new message at most."""

DUE: Final = "brrr.due"
ATTEMPTS: Final = "brrr.attempts"
ATTEMPT: Final = "brrr.attempt"
BURIED: Final = "brrr.buried"
REASON: Final = "brrr.reason"

RECEIVED: Final[Mapping[str, object]] = {
    "MessageSystemAttributeNames": ["ApproximateReceiveCount"],
    "MessageAttributeNames": ["brrr.*"],
}
"""What a receive asks for."""

ROOM: Final = 256
"""Bytes of a dead letter's attributes but for the text of its reason."""


class Receipt:
    """One delivery, as this process knows it.

    Attributes:
        handle: SQS' name of it.
        begun: When it was received or a little before, by the loop's clock.
        until: When its lease ends, or a little before.
        settled: Whether it was acked, given back or buried.
        moved: Whether what takes its place was sent, so that it has only to be deleted.
        busy: What is being done with it, if anything.
    """

    __slots__ = ("begun", "busy", "handle", "moved", "settled", "until")

    def __init__(self, handle: str, *, begun: float, until: float) -> None:
        self.handle = handle
        self.begun = begun
        self.until = until
        self.settled = False
        self.moved = False
        self.busy: Task[None] | None = None

    def held(self) -> bool:
        """Whether the message is its holder's now, and to be settled."""
        return not self.settled and asyncio.get_running_loop().time() < self.until


class Received(NamedTuple):
    """A delivery, and when it is due, in unix seconds; 0 where it is due anyway."""

    delivery: Delivery
    receipt: Receipt
    due: float


def received(topic: str, found: Mapping[str, Any], *, begun: float, lease: float) -> Received:
    """What a receive gave that was asked for at `begun`."""
    attributes: Attributes = found.get("MessageAttributes", {})
    before = int(read_number(attributes, ATTEMPTS))
    attempt = before + int(found.get("Attributes", {}).get("ApproximateReceiveCount", 1))
    receipt = Receipt(found["ReceiptHandle"], begun=begun, until=begun + lease)
    delivery = Delivery(topic, read_body(found["Body"], attributes), receipt, attempt)
    return Received(delivery, receipt, read_number(attributes, DUE))


def message(body: bytes, *, delay: float = 0, attempts: int = 0) -> Entry:
    """A message to be sent, that is due after `delay` seconds."""
    as_text, attributes = carried(body)
    if delay > LONGEST_DELAY:
        attributes[DUE] = number(time.time() + delay)
    if attempts:
        attributes[ATTEMPTS] = number(attempts)
    # Always said, as a queue of the user's own may delay what says nothing.
    return _entry(as_text, attributes, min(LONGEST_DELAY, ceil(delay)))


def letter(delivery: Delivery, reason: str) -> Entry:
    """The dead letter of a message. What a message has no room for of the reason is cut off."""
    as_text, attributes = carried(delivery.body)
    attributes[ATTEMPT] = number(delivery.attempt)
    attributes[BURIED] = number(time.time())
    why = text(_cut(reason, MESSAGE_LIMIT - size(as_text, attributes) - ROOM))
    if why is not None:
        attributes[REASON] = why
    return _entry(as_text, attributes, 0)


def dead_letter(topic: str, found: Mapping[str, Any]) -> DeadLetter:
    """The dead letter that a message is."""
    attributes: Attributes = found.get("MessageAttributes", {})
    return DeadLetter(
        topic,
        read_body(found["Body"], attributes),
        read_text(attributes, REASON),
        int(read_number(attributes, ATTEMPT)),
        read_number(attributes, BURIED),
    )


def _entry(as_text: str, attributes: dict[str, dict[str, Any]], delay: int) -> Entry:
    entry: dict[str, Any] = {"MessageBody": as_text, "DelaySeconds": delay}
    if attributes:
        entry["MessageAttributes"] = attributes
    return entry


def _cut(reason: str, room: int) -> str:
    whole = reason.encode(errors="backslashreplace")
    if len(whole) <= room:
        return reason
    told = f"\n… and {len(whole) - room} bytes more, which the message had no room for"
    return whole[: room - len(told.encode())].decode(errors="ignore") + told
