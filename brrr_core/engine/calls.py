"""A call in progress: its delivery, its child calls, and the exceptions that end a run without a result."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from brrr_core.backend.contracts import Delivery
from brrr_core.durations import DurationLike, seconds
from brrr_core.wire import Call

__all__ = ["Again", "Cancelled", "Child", "Defer", "HeldDelivery", "Job"]

SUSPICIOUS: Final = 3
"""Number of unexplained deliveries after which a message runs alone."""


@dataclass(slots=True, eq=False)
class HeldDelivery:
    """A delivery that a worker holds, and how earlier deliveries of its message ended.

    Attributes:
        delivery: The delivery.
        lease_began: Time at which its lease last began, by the clock of the event loop.
        failed: Failed attempts, according to the cache.
        released: Deliveries that workers released, according to the cache.
        unfinished_alone: Isolated runs that began and did not end properly, according to the cache.
        begun_alone: Isolated runs that this delivery began.
        task_name: The task that runs, or that ran last; empty if none ran yet.
        lost: Whether the expired lease was reported.
    """

    delivery: Delivery
    lease_began: float
    failed: int = 0
    released: int = 0
    unfinished_alone: int = 0
    begun_alone: int = 0
    task_name: str = ""
    lost: bool = False

    @property
    def unexplained(self) -> int:
        """Number of earlier deliveries that ended in a crash or with a lost lease."""
        return max(0, self.delivery.attempt - 1 - self.failed - self.released)

    @property
    def suspicious(self) -> bool:
        """Whether the message may be the one that crashes its workers."""
        return self.unexplained >= SUSPICIOUS


@dataclass(frozen=True, slots=True)
class Job:
    """A delivery and its call."""

    held: HeldDelivery
    root_id: str
    call: Call

    @property
    def topic(self) -> str:
        """Topic of the message."""
        return self.held.delivery.topic


class Child(NamedTuple):
    """A call that a handler waits for, and the topic of its messages."""

    call: Call
    topic: str


class Defer(BaseException):
    """Raised in a handler that reached a call without a value. The handler runs again when the value exists.

    It is a BaseException, so that `except Exception` in a handler does not swallow it. If a handler swallows it anyway,
    the run is still deferred, because the run records its missing calls.
    """


class Again(BaseException):
    """A handler raises this to run again later, from its start. It is not a failure, and uses up no attempt.

    It is a BaseException, so that `except Exception` in a handler does not swallow it. Nothing is held in memory
    meanwhile. Calls that already have values are not repeated.

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
    """Raised in a handler whose call someone cancelled, at its first `await` of a call that has no value yet.

    Calls in `except brrr.Cancelled` and `finally` run durably. The value that the handler then returns, or the error
    that it raises, is the outcome of its call. If the handler lets this exception pass, its call fails with it.

    It is a BaseException, so that `except Exception` in a handler does not swallow it.
    """

    def __init__(self, message: str = "the call was cancelled") -> None:
        super().__init__(message)
