"""The contracts of a backend: queue, store and cache. The contract kit tests every rule on this page.

`lifecycle.py` has `Backend`, which opens and closes them, and `manifests.py` has the capabilities that it declares.

Operations take batches, because round trips dominate the cost. The items of a batch are independent: there is no
transaction. Results have the order of the arguments, and an empty batch does nothing.

An operation may be cancelled, or its process may die, at any point. Each item of its batch has then taken effect
completely or not at all, and the caller may repeat the operation: a batch is not all or nothing. A record has its old
or its new value, and never a part of it. A counter was increased once or not at all. Of each step (`steps.py`), all
effects took place or none. No message is ever lost: each one that was not put, acknowledged or dropped is still ready,
delayed, leased or a dead letter. `bury` and `redrive` may leave it at both places, so they add before they remove.

Before it begins, every operation raises `ArgumentError` for an invalid argument. The checks of `brrr_core.backend` do
that, and every backend calls them first:

- A topic and the name of a counter are text of 1 to 1,024 bytes in UTF-8 (`LONGEST_NAME`). All its characters count,
  even NUL: no backend cuts a name, or changes it. Text with half of a surrogate pair is refused.
- A call hash is 1 to 1,024 printable US-ASCII characters.
- A `limit` is an int from 1 to 2**31 (`LARGEST_LIMIT`).
- An amount is an int from -2**62 to 2**62 (`LARGEST_COUNT`).
- A `wait` is 0 seconds or more, and can be infinite. A `delay` is finite, and 0 seconds or more.
- Bodies and values are bytes. `put(topic, b"abc")` and `put(topic, ["text"])` are refused.

Times are fractions of a second. A delay or a lease never ends early. It ends late by at most the resolution that the
manifest declares, and the time that the backend takes.

Concurrent batches never fail because of each other, regardless of the order of their keys. If a server detects a
deadlock, or refuses one of two concurrent transactions, the backend repeats the request.

A receive that waits takes nothing that other operations need: with 64 of them, every other operation still works.

An operation on a closed backend raises `BackendClosedError`. So does a waiting `receive` when its backend is closed.

If the server is gone or silent, every operation raises `BackendUnavailableError` in bounded time, even a waiting
`receive`; a backend with a server has an option `timeout` for that. When the server is back, the same backend works. An
operation that raised may have taken effect. A backend repeats one whose answer was lost only if that is safe:
`increment`, `swap` and steps must neither count twice nor report a false result.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from brrr_core.backend.inspection import Inspector, LetterBox

__all__ = [
    "CONTRACT_VERSION",
    "Cache",
    "DeadLetter",
    "Delivery",
    "Key",
    "Kind",
    "Notifier",
    "Queue",
    "QueueStats",
    "Store",
    "Swap",
]

CONTRACT_VERSION: Final = 1
"""The version of these contracts. The manifest of a plugin names the version for which it was written."""

Kind: TypeAlias = Literal["call", "pending_returns", "value"]
"""The kind of a record (`docs/reference/protocol.md`, Store keys)."""


class Key(NamedTuple):
    """The key of a record in a store."""

    kind: Kind
    call_hash: str


class Swap(NamedTuple):
    """One compare-and-swap: if the record at `key` equals `expected`, it becomes `new`. None means absent."""

    key: Key
    expected: bytes | None
    new: bytes | None


class Delivery(NamedTuple):
    """A message that is leased to its receiver.

    Attributes:
        topic: The topic from which it was received.
        body: The bytes that were put, unchanged.
        receipt: The backend's handle of this delivery. Only the backend interprets it. A receipt that it does not
            know, such as one of another backend, is stale.
        attempt: The number of deliveries of the message, including this one. Starts at 1.
    """

    topic: str
    body: bytes
    receipt: object
    attempt: int


class DeadLetter(NamedTuple):
    """A message that was dead-lettered.

    Attributes:
        topic: The topic of the message.
        body: The bytes that were put, unchanged.
        reason: The reason that was passed to `bury`.
        attempt: The attempt of the delivery that was dead-lettered.
        buried_at: The time of `bury`, in unix seconds.
    """

    topic: str
    body: bytes
    reason: str
    attempt: int
    buried_at: float


class QueueStats(NamedTuple):
    """The number of messages of a topic in each state, at one moment.

    A message whose lease has expired, or whose delay is over, is ready, even before a receive has noticed it. The
    numbers may be approximate, and late, if the manifest does not declare `exact_stats`.
    """

    ready: int
    leased: int
    delayed: int
    dead: int


class Queue(ABC):
    """Delivers each message at least once.

    Once `put` has returned, the queue delivers the message until it is acknowledged or dead-lettered, even if workers
    crash. No process keeps a message for the queue, not even one that was put or released with a delay. A body is any
    bytes, up to the size that the manifest declares. Order is not promised, but roughly first in, first out is
    preferred. Topics do not affect each other.

    A delivery is leased for `lease` seconds; when the lease expires, the message becomes ready again. From then on its
    receipt is stale, even if no other receiver has taken the message yet: the operations compare the time themselves.
    If an extension races with the end of the lease and another receive, only one of them wins. A cancelled `receive`
    loses no message: a message that it took becomes ready again when its lease expires, or earlier.
    """

    lease: float
    """Lease of a delivery in seconds. `extend` restarts it."""

    letters: "LetterBox | None" = None
    """Dead letters by their ids; None if the queue cannot tell them apart. It is optional, and the manifest does not
    mention it."""

    inspector: "Inspector | None" = None
    """The topics and their messages, for operators; None if the server cannot show them. It is optional too."""

    @abstractmethod
    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        """Add messages to the topic. They become ready after `delay` seconds.

        If the answer is lost, each may be put once, twice or, if the put raises, not at all.

        Raises:
            CapabilityError: `delay` is positive and the manifest does not declare `delay`.
            BodyTooLargeError: A body is larger than the manifest's `max_body`. No message of the batch was put.
        """

    @abstractmethod
    async def receive(self, topic: str, *, limit: int, wait: float) -> list[Delivery]:
        """Take and lease up to `limit` ready messages.

        Returns as soon as one message is ready. After `wait` seconds without a message, returns an empty list.
        Messages whose answer is lost come back when their lease expires.
        """

    @abstractmethod
    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge: remove the messages for good. A stale or settled receipt does nothing."""

    @abstractmethod
    async def release(self, deliveries: Sequence[Delivery], *, delay: float = 0) -> None:
        """Make the messages ready again after `delay` seconds. Their next delivery has the next attempt number.

        A stale or settled receipt does nothing.

        Raises:
            CapabilityError: `delay` is positive and the manifest does not declare `delay`.
        """

    @abstractmethod
    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Restart the leases: they expire `lease` seconds from now. A stale or settled receipt does nothing."""

    @abstractmethod
    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Dead-letter the message of the delivery, with the reason. A stale or settled receipt does nothing."""

    @abstractmethod
    async def stats(self, topic: str) -> QueueStats:
        """Count the messages of the topic in each state."""

    @abstractmethod
    async def dead(self, topic: str, *, limit: int) -> list[DeadLetter]:
        """Return up to `limit` dead letters, oldest first, without removing them.

        The oldest is the one that was dead-lettered first, no matter when its message was put.
        """

    @abstractmethod
    async def redrive(self, topic: str, *, limit: int) -> int:
        """Put up to `limit` dead letters, oldest first, back on the topic as new messages (attempt 1).

        They follow the messages that are ready. If the manifest declares `ordered`, they are received in this order.

        Returns the number of dead letters that were put back.
        """

    @abstractmethod
    async def drop(self, topic: str, *, limit: int) -> int:
        """Delete up to `limit` dead letters for good, oldest first. Returns the number deleted."""


class Notifier(ABC):
    """Announces new values of a store, so that clients that wait for results need not poll.

    It only gives hints: a wake-up may come early, twice or never. So a client that was woken reads the value, and a
    client that was not woken reads it regularly.
    """

    @abstractmethod
    async def watch(self, call_hash: str, wake: Callable[[], None]) -> bool:
        """Call `wake` in this event loop each time that any process creates the value of a call, until `unwatch`.

        Returns when the watch is in force. Then a value that is created later wakes, and one that was created earlier
        can be read. Also call `wake` when the backend closes, and when hints may have been lost, for example when a
        lost connection was replaced.

        Returns:
            False if hints cannot come now, so that the caller has to poll. It may still be woken later.

        Raises:
            BackendClosedError: The backend is closed.
        """

    @abstractmethod
    def unwatch(self, call_hash: str, wake: Callable[[], None]) -> None:
        """End a watch. If there is none, do nothing."""


class Store(ABC):
    """Holds records under keys. Each key is linearizable.

    A read sees every write and swap that finished before the read began. A record is any bytes, up to the size that the
    manifest declares.
    """

    expires_after: float | None = None
    """Seconds that a value is kept after its last write or read; None for no limit. `expiry.py` has the whole rule.

    A store whose values expire sets it when it is opened. The engine then refuses waits that are too long for it.
    """

    notifier: Notifier | None = None
    """Announces new values; None if the store cannot. It is optional, and the manifest does not mention it."""

    @abstractmethod
    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Return the record of each key, or None if it is absent."""

    @abstractmethod
    async def write(self, items: Sequence[tuple[Key, bytes]]) -> None:
        """Set the records, and replace existing ones. If a key is in a batch twice, the last value stays.

        Raises:
            ValueTooLargeError: A value is larger than the manifest's `max_value`. No item of the batch was written.
        """

    @abstractmethod
    async def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Compare and swap, each swap atomic on its own key. Returns True for each swap that took place.

        The server compares, even if `new` equals `expected`: such a swap checks that a record has not changed.

        Several swaps of one key in one batch take place one after another, in their order. If the answer is lost,
        report what took place or raise, never a false loss or win.

        Raises:
            ValueTooLargeError: A new value is larger than the manifest's `max_value`. No swap of the batch took place.
        """


class Cache(ABC):
    """Holds counters. A new counter is 0. The cache can forget a counter that was not used for a long time.

    A counter is exact from -2**62 to 2**62. An increment that leaves this range is exact too, or raises an error and
    leaves its counter as it was.
    """

    @abstractmethod
    async def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        """Add each amount to its counter, and return the new counters under the same keys. The amount 0 only reads.

        If the answer is lost, an amount counts once, or the increment raises; it never counts twice.
        """
