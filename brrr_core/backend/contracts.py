"""The contracts that a backend fulfils: queue, store, cache, and the backend that owns their connections.

All operations take batches, because a round trip is what costs. The items of a batch are independent of each other (no
transaction is promised), results come back in the order of the arguments, and an empty batch does nothing. What is
written here in words is what the contract kit demands in tests.

Every operation raises `ArgumentError` for an argument out of range, before it does anything: an empty topic, a `limit`
under 1, a negative or NaN `wait`, a `delay` that is negative or not finite (`brrr_core.backend.checks`). `wait` may be
infinite. An operation on a closed backend raises `BackendClosedError`, and so does a `receive` that waits while its
backend is closed.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

__all__ = [
    "CONTRACT_VERSION",
    "Cache",
    "DeadLetter",
    "Delivery",
    "Key",
    "Kind",
    "Queue",
    "QueueStats",
    "Store",
    "Swap",
]

CONTRACT_VERSION: Final = 1
"""The version of these contracts. A plugin's manifest names the version that it was written for."""

Kind: TypeAlias = Literal["call", "pending_returns", "value"]
"""What a record is (PROTOCOL.md, Store keys)."""


class Key(NamedTuple):
    """Where a record lives in a store."""

    kind: Kind
    call_hash: str


class Swap(NamedTuple):
    """One compare-and-set: `key` becomes `new` if it is `expected` now. None means absent."""

    key: Key
    expected: bytes | None
    new: bytes | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that is leased to whoever received it.

    Attributes:
        topic: The topic that it was received from.
        body: The bytes that were put, unchanged.
        receipt: The backend's own handle of this one delivery; meaningless to others.
        attempt: How many times the message has been delivered, this time included: it counts from 1.
    """

    topic: str
    body: bytes
    receipt: object
    attempt: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was buried, as it is kept.

    Attributes:
        topic: The topic that it was buried on.
        body: The bytes that were put, unchanged.
        reason: Why it was buried, as given to `bury`.
        attempt: The attempt that it was buried in.
        buried_at: When, in unix seconds.
    """

    topic: str
    body: bytes
    reason: str
    attempt: int
    buried_at: float


class QueueStats(NamedTuple):
    """How many messages a topic holds; approximate where the backend's own figures are."""

    ready: int
    leased: int
    delayed: int
    dead: int


class Queue(ABC):
    """Delivers messages at least once.

    What `put` returned for comes back until it is acked or buried, whoever dies meanwhile. A delivery is leased for
    `lease` seconds; a lease that runs out makes the message ready again. Any body of bytes survives, up to the size
    that the manifest declares. Order is not promised; near-FIFO is appreciated. Topics are any non-empty text and
    never touch each other. A cancelled `receive` loses nothing: what it may have taken comes back at the latest when
    its lease has run out.
    """

    lease: float
    """Seconds that a delivery stays with its receiver unless it is extended."""

    @abstractmethod
    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        """Add messages to the topic. They become ready after `delay` seconds.

        Raises:
            CapabilityError: `delay` is positive and the manifest does not declare `delay`.
            BodyTooLargeError: A body is larger than the manifest's `max_body`; nothing of the batch was put.
        """

    @abstractmethod
    async def receive(self, topic: str, *, limit: int, wait: float) -> list[Delivery]:
        """Take up to `limit` ready messages under a lease.

        Returns as soon as there is at least one, and an empty list after `wait` seconds without any.
        """

    @abstractmethod
    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Remove the messages for good. A receipt whose lease has run out, or that was settled before, does nothing."""

    @abstractmethod
    async def release(self, deliveries: Sequence[Delivery], *, delay: float = 0) -> None:
        """Give the messages back to their topic, ready after `delay` seconds; their next attempt counts one more.

        A receipt whose lease has run out, or that was settled before, does nothing.

        Raises:
            CapabilityError: `delay` is positive and the manifest does not declare `delay`.
        """

    @abstractmethod
    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Start the leases anew, at `lease` seconds from now.

        A receipt whose lease has run out, or that was settled before, does nothing.
        """

    @abstractmethod
    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Move the message to its topic's dead letters, with the reason. A stale receipt does nothing."""

    @abstractmethod
    async def stats(self, topic: str) -> QueueStats:
        """How many messages the topic holds now."""

    @abstractmethod
    async def dead(self, topic: str, *, limit: int) -> list[DeadLetter]:
        """Up to `limit` dead letters, the oldest first. They stay where they are."""

    @abstractmethod
    async def redrive(self, topic: str, *, limit: int) -> int:
        """Put up to `limit` dead letters, the oldest first, back on the topic as new messages (attempt 1).

        Returns how many were put back.
        """

    @abstractmethod
    async def drop(self, topic: str, *, limit: int) -> int:
        """Delete up to `limit` dead letters for good, the oldest first. Returns how many were deleted."""


class Store(ABC):
    """Holds records under keys, linearizable per key.

    A read sees every write and swap that finished before it began. Call hashes are any printable US-ASCII text.
    Values are any bytes, up to the size that the manifest declares.
    """

    @abstractmethod
    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        """The values of the keys, None for what is absent."""

    @abstractmethod
    async def write(self, items: Sequence[tuple[Key, bytes]]) -> None:
        """Set the keys, whatever they were before. Of a key that stands twice in a batch the last value stays.

        Raises:
            ValueTooLargeError: A value is larger than the manifest's `max_value`; nothing of the batch was written.
        """

    @abstractmethod
    async def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Compare-and-set, each atomic on its own key. True for each swap that took place.

        Swaps of one key in one batch take place one after the other, in their order.

        Raises:
            ValueTooLargeError: A new value is larger than the manifest's `max_value`; no swap of the batch took place.
        """


class Cache(ABC):
    """Counts. A counter that was never incremented is 0. Counters may be forgotten after a long time without use."""

    @abstractmethod
    async def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        """Add each amount (any integer, 0 reads) to its counter. The counters after it, by the same keys."""
