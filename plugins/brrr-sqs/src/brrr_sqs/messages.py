"""Messages that this queue sends and receives, and the receipts of its deliveries.

A message has its body and these attributes:

    brrr.encoding   encoding of the body (`bodies`)
    brrr.due        end of a delay that is longer than SQS can delay a message, in unix seconds
    brrr.attempts   number of deliveries before the message was sent again
    brrr.attempt, brrr.buried, brrr.reason    attempt, time (unix seconds) and reason of a dead letter
"""

import asyncio
import time
from asyncio import Task
from collections.abc import Mapping
from math import ceil
from typing import Any, Final, NamedTuple

from brrr_core.backend import DeadLetter, Delivery
from brrr_sqs.bodies import (
    MAX_MESSAGE_BYTES,
    Attributes,
    decode_body,
    encode_body,
    message_size,
    number_attribute,
    number_of,
    text_attribute,
    text_of,
)
from brrr_sqs.entry_batches import Entry

__all__ = [
    "MAX_DELAY_SECONDS",
    "MESSAGES_PER_REQUEST",
    "RECEIVE_PARAMETERS",
    "Receipt",
    "Received",
    "dead_letter_entry",
    "message_entry",
    "parse_dead_letter",
    "parse_message",
]

MAX_DELAY_SECONDS: Final = 900
"""Longest delay that SQS supports for a new message."""

DUE: Final = "brrr.due"
ATTEMPTS: Final = "brrr.attempts"
ATTEMPT: Final = "brrr.attempt"
BURIED: Final = "brrr.buried"
REASON: Final = "brrr.reason"

MESSAGES_PER_REQUEST: Final = 10
"""Most messages in one response to a receive."""

RECEIVE_PARAMETERS: Final[Mapping[str, object]] = {
    "MessageSystemAttributeNames": ["ApproximateReceiveCount"],
    "MessageAttributeNames": ["brrr.*"],
}
"""Parameters of every receive."""

OVERHEAD_BYTES: Final = 256
"""Bytes of a dead letter's attributes, without the text of its reason."""


class Receipt:
    """Receipt of one delivery, with its state in this process.

    Attributes:
        handle: SQS' receipt handle.
        begun: Loop time at or shortly before the receipt.
        until: Loop time at or shortly before the end of its lease.
        settled: Whether it was acknowledged, released or buried.
        moved: Whether its replacement was sent, so that only its deletion is left.
        busy: The task that settles or extends it, if any.
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
        """Whether the lease is still valid and the delivery is not settled."""
        return not self.settled and asyncio.get_running_loop().time() < self.until


class Received(NamedTuple):
    """Delivery, its receipt, and the end of its delay in unix seconds (0 without a delay)."""

    delivery: Delivery
    receipt: Receipt
    due: float


def parse_message(topic: str, found: Mapping[str, Any], *, begun: float, lease: float) -> Received:
    """Return the delivery in a message that was received by a request of time `begun`."""
    attributes: Attributes = found.get("MessageAttributes", {})
    before = int(number_of(attributes, ATTEMPTS))
    attempt = before + int(found.get("Attributes", {}).get("ApproximateReceiveCount", 1))
    receipt = Receipt(found["ReceiptHandle"], begun=begun, until=begun + lease)
    delivery = Delivery(topic, decode_body(found["Body"], attributes), receipt, attempt)
    return Received(delivery, receipt, number_of(attributes, DUE))


def message_entry(body: bytes, *, delay: float = 0, attempts: int = 0) -> Entry:
    """Return the entry that sends a message, due after `delay` seconds."""
    encoded, attributes = encode_body(body)
    if delay > MAX_DELAY_SECONDS:
        attributes[DUE] = number_attribute(time.time() + delay)
    if attempts:
        attributes[ATTEMPTS] = number_attribute(attempts)
    # Always set the delay: a queue of the user's own may have another default.
    return _entry(encoded, attributes, min(MAX_DELAY_SECONDS, ceil(delay)))


def dead_letter_entry(delivery: Delivery, reason: str) -> Entry:
    """Return the entry that sends a dead letter. The reason is cut to the space that the body leaves."""
    encoded, attributes = encode_body(delivery.body)
    attributes[ATTEMPT] = number_attribute(delivery.attempt)
    attributes[BURIED] = number_attribute(time.time())
    why = text_attribute(_cut(reason, MAX_MESSAGE_BYTES - message_size(encoded, attributes) - OVERHEAD_BYTES))
    if why is not None:
        attributes[REASON] = why
    return _entry(encoded, attributes, 0)


def parse_dead_letter(topic: str, found: Mapping[str, Any]) -> DeadLetter:
    """Return the dead letter in a message."""
    attributes: Attributes = found.get("MessageAttributes", {})
    return DeadLetter(
        topic,
        decode_body(found["Body"], attributes),
        text_of(attributes, REASON),
        int(number_of(attributes, ATTEMPT)),
        number_of(attributes, BURIED),
    )


def _entry(encoded: str, attributes: dict[str, dict[str, Any]], delay: int) -> Entry:
    entry: dict[str, Any] = {"MessageBody": encoded, "DelaySeconds": delay}
    if attributes:
        entry["MessageAttributes"] = attributes
    return entry


def _cut(reason: str, max_bytes: int) -> str:
    whole = reason.encode(errors="backslashreplace")
    if len(whole) <= max_bytes:
        return reason
    note = f"\n… and {len(whole) - max_bytes} more bytes, which did not fit into the message"
    return whole[: max_bytes - len(note.encode())].decode(errors="ignore") + note
