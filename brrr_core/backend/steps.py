"""Steps: the optional part of the contracts for a backend that holds queue, store and cache together.

A worker needs several operations for each step of a delivery. A backend that has all three roles on one server can do
each step in one round trip. A backend without `Steps` is complete, too: the engine composes the same steps from the
simple operations. It also does so if a step was not applied.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from brrr_core.backend.contracts import Delivery, Key, Kind

__all__ = ["Count", "Message", "Reading", "Received", "Step", "Steps", "keys_of", "split_message"]


class Reading(NamedTuple):
    """A record to read with each message. Its call hash is `prefix` and a part of the message.

    Attributes:
        kind: Kind of the record.
        prefix: Text before the part.
        part: The part: the root id or the call hash of the message.
    """

    kind: Kind
    prefix: str = ""
    part: Literal["root_id", "call_hash"] = "call_hash"


class Received(NamedTuple):
    """A delivery, and the records that were read with it.

    Attributes:
        delivery: The delivery.
        records: The record of each `Reading`, in order; None for an absent one. If the body is not a schedule message
            (`split_message`), there are no records: None.
    """

    delivery: Delivery
    records: Sequence[bytes | None] | None


class Count(NamedTuple):
    """An addition to a counter of the cache.

    Attributes:
        counter: Name of the counter.
        amount: The amount, 1 or more.
        limit: The most that the counter may be after the addition.
    """

    counter: str
    amount: int
    limit: int


class Message(NamedTuple):
    """A message to put.

    Attributes:
        topic: Its topic.
        body: Its body.
        delay: Seconds before it is ready. A leased message has no delay.
        leased: Whether to lease it immediately to the caller, as attempt 1, instead of making it ready.
    """

    topic: str
    body: bytes
    delay: float = 0
    leased: bool = False


class Step(NamedTuple):
    """Effects that take place together, or not at all.

    Attributes:
        expected: The records that must be as given, None for an absent one. Each key occurs once.
        counts: Additions to counters. Each counter occurs once.
        writes: Records to set before the messages are put.
        messages: Messages to put.
        marks: Records to set, or to delete if None, after the messages were put.
        acks: Deliveries to acknowledge at the end. A stale or settled receipt is skipped, and the other effects stay.
    """

    expected: Sequence[tuple[Key, bytes | None]]
    counts: Sequence[Count] = ()
    writes: Sequence[tuple[Key, bytes]] = ()
    messages: Sequence[Message] = ()
    marks: Sequence[tuple[Key, bytes | None]] = ()
    acks: Sequence[Delivery] = ()


class Steps(ABC):
    """Several operations of one queue, store and cache in one round trip.

    Its operations and those of the roles see each other's effects, as if they were of one role. They check their
    arguments as the roles do: topics, limits, waits, delays, and the sizes of bodies and values.
    """

    @abstractmethod
    async def receive(self, topic: str, *, limit: int, wait: float, readings: Sequence[Reading]) -> list[Received]:
        """Receive as `Queue.receive` does. Read the records of each message after it was leased.

        If the store has a `ttl`, this counts as a read of the values.
        """

    def drained(self, topic: str) -> bool:
        """Whether the last `receive` of a topic left no ready message. False if that is not known: the default.

        A worker without a free slot continues its own work only if no other message waits. An outdated answer only
        changes the order of messages.
        """
        del topic
        return False

    @abstractmethod
    async def commit(self, steps: Sequence[Step], *, readings: Sequence[Reading] = ()) -> list[list[Received] | None]:
        """Apply steps, one after another.

        A step is applied if every expected record is as given, and no counter exceeds its limit. Otherwise it has no
        effect. Nothing else happens to its records and counters between the comparison and the effects. If the server
        can fail in the middle of a step, it fails after a prefix of the effects in the order of the fields of `Step`.

        Do not repeat it if the answer is lost: a repeated step finds other records, and the engine looks again.

        Args:
            steps: The steps.
            readings: The records to read with each message that was leased.

        Returns:
            For each step: None if it was not applied; otherwise the deliveries of its leased messages, in order.

        Raises:
            BodyTooLargeError: A body is too large. No step was applied.
            ValueTooLargeError: A value is too large. No step was applied.
            CapabilityError: A delay is positive, and the manifest does not declare `delay`. No step was applied.
        """


_HEAD: Final = b"li2e"


def split_message(body: bytes) -> tuple[str, str] | None:
    """Return the root id and the call hash of a schedule message; None if the body is not one.

    The body is `li2eN:ROOTM:HASHe`, with the lengths N and M in decimal (`docs/reference/protocol.md`). A server that
    cannot run this function follows the same rule.
    """
    head, _, rest = body.partition(b":")
    length = head[len(_HEAD) :]
    if not (head.startswith(_HEAD) and _is_length(length) and body.isascii()):
        return None
    end = int(length)
    length, _, last = rest[end:].partition(b":")
    if not (_is_length(length) and len(last) == int(length) + 1 and last.endswith(b"e")):
        return None
    return rest[:end].decode(), last[:-1].decode()


def _is_length(digits: bytes) -> bool:
    return digits.isdigit() and len(digits) < 20


def keys_of(body: bytes, readings: Sequence[Reading]) -> list[Key] | None:
    """Return the key of each reading for a message; None if the body is not a schedule message."""
    parts = split_message(body)
    if parts is None:
        return None
    root_id, call_hash = parts
    return [Key(kind, prefix + (call_hash if part == "call_hash" else root_id)) for kind, prefix, part in readings]
