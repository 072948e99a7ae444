"""A call in progress: its delivery, its child calls, and the exceptions that end a run without a result."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from brrr_core.backend.contracts import Delivery
from brrr_core.backend.steps import Received
from brrr_core.durations import DurationLike, seconds
from brrr_core.wire import Call

__all__ = [
    "EVENT",
    "HAND_OVER_LIMIT",
    "SLEEP",
    "Again",
    "Cancelled",
    "Child",
    "Defer",
    "HandOver",
    "HeldDelivery",
    "Job",
    "NotHere",
    "Outdated",
    "Wait",
]

EVENT: Final = "brrr.event/"
"""Prefix of the names of events. They are calls that no worker runs: a client gives them their outcome."""

SLEEP: Final = "brrr.sleep"
"""The task name of a sleep, for error messages."""

HAND_OVER_LIMIT: Final = 16
"""The most messages in a row that one slot of a worker takes over without a receive, so that others get their turn."""

SUSPICIOUS: Final = 3
"""Number of unexplained deliveries after which a message runs alone."""


@dataclass(slots=True, eq=False)
class HeldDelivery:
    """A delivery that a worker holds, and how earlier deliveries of its message ended.

    Attributes:
        delivery: The delivery.
        lease_began: Time at which its lease last began, by the clock of the event loop.
        received: Time at which the worker received it, by the same clock.
        failed: Failed attempts, according to the cache.
        released: Deliveries that workers released, according to the cache.
        unfinished_alone: Isolated runs that began and did not end properly, according to the cache.
        begun_alone: Isolated runs that this delivery began.
        task_name: The task that runs, or that ran last; empty if none ran yet.
        lost: Whether the expired lease was reported.
        records: The records that were read with the message (`Control.readings`), if they are still new; else None.
        pending: The pending record of its call when it was last read. It is read only if the backend offers steps.
        handed_over: How many messages in a row were handed over to this slot of the worker, ending with this one.
        interrupted: Whether a failure of a backend interrupted the handling of this delivery, which was then repeated.
    """

    delivery: Delivery
    lease_began: float
    received: float
    failed: int = 0
    released: int = 0
    unfinished_alone: int = 0
    begun_alone: int = 0
    task_name: str = ""
    lost: bool = False
    records: Sequence[bytes | None] | None = None
    pending: bytes | None = None
    handed_over: int = 0
    interrupted: bool = False

    def take_over(self, other: "HeldDelivery") -> None:
        """Take over all attributes of another held delivery, which must not be used again."""
        for name in HeldDelivery.__slots__:
            setattr(self, name, getattr(other, name))

    @property
    def begun_before(self) -> bool:
        """Whether the message may have been handled before, and half of the work is done."""
        return self.interrupted or self.delivery.attempt > 1

    @property
    def counted(self) -> bool:
        """Whether one of its counters in the cache is not 0."""
        return bool(self.failed or self.released or self.unfinished_alone)

    @property
    def unexplained(self) -> int:
        """Number of earlier deliveries that ended in a crash or with a lost lease."""
        return max(0, self.delivery.attempt - 1 - self.failed - self.released)

    @property
    def suspicious(self) -> bool:
        """Whether the message may be the one that crashes its workers."""
        return self.unexplained >= SUSPICIOUS


class HandOver(NamedTuple):
    """A worker that takes messages over: they are put already leased to it, and start there without a receive.

    Attributes:
        wants: Whether it takes over a message of this topic in the slot of this delivery, which is about to end.
        take: Starts the messages that were put leased, in the slot of the delivery that has ended.
    """

    wants: Callable[[str, HeldDelivery], bool]
    take: Callable[[HeldDelivery, Sequence[Received]], None]


class Job(NamedTuple):
    """A delivery and its call.

    Attributes:
        held: The delivery.
        root_id: The root id of its message, without that of a timer.
        call: The call.
        due: The time at which its timer message was due, in unix seconds; 0 for other messages.
    """

    held: HeldDelivery
    root_id: str
    call: Call
    due: float = 0

    @property
    def topic(self) -> str:
        """Topic of the message."""
        return self.held.delivery.topic


class Wait(NamedTuple):
    """A wait of a handler that ends at a time: a sleep, or a call or an event with a deadline.

    Attributes:
        name: Its call hash, and its position or key within the call.
        due: The time at which it ends, in unix seconds.
        running: Whether its timer message was put before.
    """

    name: str
    due: float
    running: bool = False

    @property
    def outcome(self) -> str:
        """Reserved call hash of its outcome, which never changes: empty, or `EXPIRED`."""
        return f"brrr.wait/{self.name}"

    @property
    def timer(self) -> str:
        """Reserved call hash of its due time, in unix milliseconds. The record is written after its message was put."""
        return f"brrr.due/{self.name}"


class Child(NamedTuple):
    """A call, an event or a sleep that a handler waits for.

    Attributes:
        call: The call. That of a sleep has the hash of the outcome of its wait.
        topic: The topic of its messages; empty for an event or a sleep, which have none.
        delay: Seconds before it may run.
        wait: The wait of a sleep, or of a call or an event with a deadline.
    """

    call: Call
    topic: str
    delay: float = 0
    wait: Wait | None = None

    @property
    def key(self) -> str:
        """Identity among the children of one run."""
        return self.call.call_hash if self.wait is None else self.wait.outcome

    @property
    def is_sleep(self) -> bool:
        """Whether it is a sleep, which ends by its timer message only."""
        return self.wait is not None and self.call.call_hash == self.wait.outcome


class Defer(BaseException):
    """Raised in a handler that reached a call without a value. The handler runs again when the value exists.

    It is a BaseException, so that `except Exception` in a handler does not swallow it. If a handler swallows it anyway,
    the run is still deferred, because the run records its missing calls.
    """


class Again(BaseException):
    """A handler raises this to run again later, from its start. It is not a failure, and uses up no attempt.

    It is a BaseException, so that `except Exception` in a handler does not swallow it. The wait is not held in memory.
    Calls that already have values are not repeated.

    Args:
        after: The time until the next run: seconds, a `timedelta`, or a text such as `"10s"`.

    Raises:
        ArgumentError: `after` is not a duration.
    """

    def __init__(self, *, after: DurationLike) -> None:
        self.after = seconds(after, "after")
        super().__init__(self.after)

    def __str__(self) -> str:
        return f"run again after {self.after:g} s"


class Cancelled(BaseException):
    """Raised in a handler whose call was cancelled, at its first `await` of a call that has no value yet.

    Calls in `except brrr.Cancelled` and `finally` run durably. The value that the handler then returns, or the error
    that it raises, is the outcome of its call. If the handler lets this exception pass, its call fails with it.

    It is a BaseException, so that `except Exception` in a handler does not swallow it.
    """

    def __init__(self, message: str = "the call was cancelled") -> None:
        super().__init__(message)


class Outdated(Exception):  # noqa: N818 - the call does not fail, it runs again immediately
    """Ends a run before it takes effect, because its call was cancelled or retried after the run had begun."""


class NotHere(Again):
    """Ends a run before its handler begins, because another worker must continue the call.

    Attributes:
        reason: The reason.
        topic: The topic of that worker; None for the topic of the message.
    """

    def __init__(self, reason: str, *, after: float = 0, topic: str | None = None) -> None:
        super().__init__(after=after)
        self.reason = reason
        self.topic = topic
