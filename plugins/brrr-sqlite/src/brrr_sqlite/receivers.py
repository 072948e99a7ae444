"""Operations that lease messages, receivers that wait for messages, and the events that wake them.

A waiting receiver runs no statement and holds no lock. A new receiver waits immediately if another one has just left
no ready message in the topic. A waiting receiver looks for messages after each of these events:

- This backend may have added messages to the topic. It then looks in the same transaction.
- Another backend may have added messages to the topic (`news.py`).
- The write-ahead log has changed, so another process may have added messages, and its hint may be lost.
- A message becomes ready, because its delay or lease has expired.
- `RECHECK_SECONDS` have passed.

All code of this module runs on the event loop of the backend.
"""

import sqlite3
from asyncio import AbstractEventLoop, Future, TimerHandle
from collections.abc import Callable, Collection, Sequence
from functools import partial
from math import inf
from pathlib import Path
from time import time_ns
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from brrr_core.backend import Delivery, closed_error
from brrr_sqlite import messages
from brrr_sqlite.clock import Microseconds
from brrr_sqlite.transactions import AnyOperation, Failure, Operation, Outcome, WriteNeeded

__all__ = ["Claim", "Found", "Leasing", "Receivers"]

RECHECK_SECONDS: Final = 1.0
"""A receiver looks again after this time without an event: clocks may be set, and file systems may round times."""

TIMESTAMP_TICK_NS: Final = 50_000_000
"""Two writes within this time may leave the same timestamp. Kernels update timestamps at ticks of up to 10 ms."""

FRESH_SECONDS: Final = 0.005
"""A new receiver relies on a look that is at most this old. Other processes may have put messages since then."""

DUE_MARGIN_SECONDS: Final = 0.001
"""A receiver looks this long after a message becomes ready, because the loop's clock and the file's clock differ."""


class Leases(Protocol):
    """The outcome of an operation that leases messages."""

    @property
    def deliveries(self) -> Sequence[Delivery]:
        """The messages that it leased."""
        ...


LeasesT = TypeVar("LeasesT", bound=Leases)


class Look(NamedTuple):
    """A look at a topic that left no ready message. Both times are by the clock of the event loop.

    Attributes:
        at: The time after the look.
        due_at: The time at which the first message is ready.
    """

    at: float
    due_at: float


class Found(NamedTuple):
    """The outcome of a claim.

    Attributes:
        deliveries: The messages that it leased.
        due_in: The time until the first of the other messages is ready; None if the topic has no other messages.
        records: The records that were read with each delivery.
    """

    deliveries: list[Delivery]
    due_in: Microseconds | None = None
    records: Sequence[Sequence[bytes | None] | None] = ()


class LogState(NamedTuple):
    """The state of the write-ahead log, as its timestamp and size show it.

    While the timestamp is recent (`settled` is false), another write can leave the same state.

    An outdated state is safe, because it only makes receivers look once more. So only the timer reads the state. Its
    first state in a wait is compared with the last state of the previous wait.
    """

    timestamp: int
    size: int
    settled: bool


class Leasing(Operation[LeasesT], Generic[LeasesT]):
    """An operation that leases messages to its caller. If the caller is cancelled, it undoes the leases immediately."""

    __slots__ = ("_receivers",)

    def __init__(
        self,
        receivers: "Receivers",
        future: Future[LeasesT],
        *,
        read: Callable[[sqlite3.Connection], LeasesT | WriteNeeded] | None = None,
        write: Callable[[sqlite3.Connection], LeasesT],
        topics: Collection[str] = (),
        values: Collection[str] = (),
    ) -> None:
        super().__init__(future, read=read, write=write, topics=topics, values=values)
        self._receivers = receivers

    def settle(self, outcome: Outcome[LeasesT]) -> None:
        """Give the outcome to the caller. If the caller was cancelled, undo the leases."""
        if self.future.done() and not isinstance(outcome, Failure):
            self._receivers.undo_leases(outcome.deliveries)
        else:
            super().settle(outcome)

    def cancel(self) -> None:
        """End the operation of a cancelled caller. If it has leased messages already, undo the leases."""
        if self.future.done() and not self.future.cancelled() and self.future.exception() is None:
            self._receivers.undo_leases(self.future.result().deliveries)


class Claim(Leasing[Found]):
    """The operation of a receiver. It is settled when it has deliveries, or at its deadline."""

    __slots__ = ("deadline", "looked", "timer", "topic")

    def __init__(
        self,
        receivers: "Receivers",
        future: Future[Found],
        *,
        read: Callable[[sqlite3.Connection], Found | WriteNeeded],
        write: Callable[[sqlite3.Connection], Found],
        topic: str,
        deadline: float,
    ) -> None:
        super().__init__(receivers, future, read=read, write=write)
        self.topic = topic
        self.deadline = deadline
        self.timer: TimerHandle | None = None
        self.looked = False

    def settle(self, outcome: Outcome[Found]) -> None:
        """Return the deliveries to the receiver, or keep it waiting."""
        self.looked = True
        if not isinstance(outcome, Failure):
            self._receivers.remember(self.topic, outcome)
        if self.future.done() or isinstance(outcome, Failure) or outcome.deliveries:
            super().settle(outcome)
        else:
            self._receivers.settle_empty(self, outcome)

    def cancel(self) -> None:
        """End the claim of a cancelled receiver."""
        self._receivers.forget(self)
        super().cancel()


class Receivers:
    """The claims of one backend that wait: they found no messages, and their deadline has not passed.

    Args:
        log: The path of the write-ahead log.
        poll: Seconds between two checks of the log while a claim waits.
        loop: The event loop of the backend.
        submit: Adds an operation to the next group.
    """

    def __init__(
        self, log: Path, *, poll: float, loop: AbstractEventLoop, submit: Callable[[AnyOperation], None]
    ) -> None:
        self.log_checks = 0
        """The number of checks of the log so far."""
        self._log = log
        self._poll = poll
        self._loop = loop
        self._submit = submit
        self._waiting: dict[str, dict[Claim, None]] = {}
        self._looks: dict[str, Look] = {}
        self._wakes = 0
        self._wakes_before_group = 0
        self._log_state = LogState(0, 0, settled=False)
        self._timer: TimerHandle | None = None
        self._closed = False

    @property
    def topics(self) -> Collection[str]:
        """The topics that wait for messages, or that are known to be empty."""
        return {*self._waiting, *self._looks}

    def before_group(self) -> None:
        """Remember the number of wakes: the claims of this group may miss messages of later wakes."""
        self._wakes_before_group = self._wakes

    def take_waiting(self, topics: Collection[str]) -> list[Claim]:
        """Return the claims that wait for these topics, and end their wait."""
        claims: list[Claim] = []
        for topic in topics:
            self._looks.pop(topic, None)
            claims += self._waiting.get(topic, ())
        for claim in claims:
            self._stop_waiting(claim)
        return claims

    def wake(self, topics: Collection[str]) -> None:
        """Make the claims that wait for these topics look again."""
        self._wakes += 1
        for claim in self.take_waiting(topics):
            self._submit(claim)

    def remember(self, topic: str, outcome: Found) -> None:
        """Remember a look at a topic, unless it left ready messages or missed an event."""
        if outcome.due_in is not None and outcome.due_in <= 0:
            self._looks.pop(topic, None)
        elif self._wakes == self._wakes_before_group:
            self._looks[topic] = Look(self._loop.time(), self._due_at(outcome))

    def wait_if_empty(self, claim: Claim) -> bool:
        """Let a new claim wait immediately, if a fresh look left no ready message. Return whether it waits.

        Only another process can have added a message meanwhile. The next check of the log then wakes the claim. The
        claim looks at least once before its deadline ends it.
        """
        look, now = self._looks.get(claim.topic), self._loop.time()
        if look is None or look.at + FRESH_SECONDS < now or look.due_at <= now:
            return False
        self._wait(claim, look.due_at)
        return True

    def settle_empty(self, claim: Claim, outcome: Found) -> None:
        """Keep a claim waiting that found no messages, unless its deadline has passed."""
        if claim.deadline <= self._loop.time():
            claim.future.set_result(outcome)
        elif self._closed:
            claim.future.set_exception(closed_error())
        elif self._wakes != self._wakes_before_group:
            self._submit(claim)
        else:
            self._wait(claim, self._due_at(outcome))

    def forget(self, claim: Claim) -> None:
        """End the wait of a claim, if it waits."""
        if claim.timer is not None:
            self._stop_waiting(claim)

    def undo_leases(self, deliveries: Sequence[Delivery]) -> None:
        """Undo leases that did not reach their caller: the messages are ready again, and first."""
        receipts = [each.receipt for each in deliveries if isinstance(each.receipt, messages.Receipt)]
        if receipts:
            # No caller awaits the outcome. If the operation fails, the leases expire.
            future: Future[None] = self._loop.create_future()
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            topics = {delivery.topic for delivery in deliveries}
            self._submit(Operation(future, write=partial(messages.unclaim, receipts=receipts), topics=topics))

    def close(self) -> None:
        """End every wait with `BackendClosedError`."""
        self._closed = True
        for claim in self.take_waiting(list(self._waiting)):
            claim.settle(Failure(closed_error()))

    def _due_at(self, outcome: Found) -> float:
        return inf if outcome.due_in is None else self._loop.time() + outcome.due_in / 1e6 + DUE_MARGIN_SECONDS

    def _wait(self, claim: Claim, due_at: float) -> None:
        look_at = min(claim.deadline, due_at, self._loop.time() + RECHECK_SECONDS)
        claim.timer = self._loop.call_at(look_at, self._time_out, claim)
        self._waiting.setdefault(claim.topic, {})[claim] = None
        if self._timer is None:
            self._timer = self._loop.call_later(self._poll, self._check_log)

    def _stop_waiting(self, claim: Claim) -> None:
        if claim.timer is not None:
            claim.timer.cancel()
            claim.timer = None
        claims = self._waiting[claim.topic]
        del claims[claim]
        if not claims:
            del self._waiting[claim.topic]
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self, claim: Claim) -> None:
        self._stop_waiting(claim)
        if claim.looked and claim.deadline <= self._loop.time():
            claim.future.set_result(Found([]))
        else:
            self._submit(claim)

    def _check_log(self) -> None:
        self.log_checks += 1
        before, self._log_state = self._log_state, self._read_log_state()
        self._timer = self._loop.call_later(self._poll, self._check_log)
        if self._log_state[:2] != before[:2] or not before.settled:
            self._looks.clear()
            self.wake(self._waiting.keys())

    def _read_log_state(self) -> LogState:
        # Do not open the log: closing it again would drop SQLite's own locks on it.
        # https://www.sqlite.org/howtocorrupt.html, section 2.2
        try:
            state = self._log.stat()
        except OSError:
            return LogState(0, 0, settled=True)
        settled = abs(time_ns() - state.st_mtime_ns) > TIMESTAMP_TICK_NS
        return LogState(state.st_mtime_ns, state.st_size, settled=settled)
