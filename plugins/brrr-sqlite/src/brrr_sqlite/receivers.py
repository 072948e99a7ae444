"""The receivers that wait for a topic, and what makes them look again.

A waiting receiver costs no statement and no lock. It looks again when this backend writes something to its topic (in
the very transaction), when another backend of the process did, when the file's log shows that another process did, when
a message falls due, and after `SAFETY` at the latest. Everything here runs on the backend's loop.
"""

import sqlite3
from asyncio import AbstractEventLoop, Future, TimerHandle
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from time import time_ns
from typing import Final, NamedTuple

from brrr_core.backend import Delivery
from brrr_core.errors import BackendClosedError
from brrr_sqlite import messages
from brrr_sqlite.asks import Ask, Failure, Outcome, WriteNeeded
from brrr_sqlite.clock import Microseconds
from brrr_sqlite.transactions import AnyAsk

__all__ = ["Claim", "Found", "Receivers"]

SAFETY: Final = 1.0
"""Seconds after which a receiver looks anyhow: clocks are set, and some file systems keep coarse times."""

FRESH: Final = 50_000_000
"""Nanoseconds within which a file can be written twice under one time stamp: kernels stamp by ticks of up to 10 ms."""

ROUNDING: Final = 0.001
"""Seconds that a look is put off after a message falls due, as the loop's clock and the file's are not one."""


class Found(NamedTuple):
    """What a claim found: messages, or in how long the first may be ready (None: there is none at all)."""

    deliveries: list[Delivery]
    due_in: Microseconds | None = None


class Log(NamedTuple):
    """The write-ahead log at a glance. An unsettled one may be written again without a trace.

    A glance that is older than need be is safe: it makes receivers look once more. So one is taken by the timer only,
    and the first glance of a wait is compared with the last one of the wait before.
    """

    stamp: int
    size: int
    settled: bool


class Claim(Ask[Found]):
    """What a receiver asks: settled when there are deliveries, or when its time is over."""

    __slots__ = ("_receivers", "deadline", "timer", "wanted")

    def __init__(
        self,
        receivers: "Receivers",
        future: Future[Found],
        *,
        read: Callable[[sqlite3.Connection], Found | WriteNeeded],
        write: Callable[[sqlite3.Connection], Found],
        wanted: str,
        deadline: float,
    ) -> None:
        super().__init__(future, read=read, write=write)
        self._receivers = receivers
        self.wanted = wanted
        self.deadline = deadline
        self.timer: TimerHandle | None = None

    def settle(self, outcome: Outcome[Found]) -> None:
        """Hand over the deliveries, or wait on."""
        self._receivers.settle(self, outcome)


class Receivers:
    """The claims of one backend that found nothing and have time left.

    Args:
        log: The file's write-ahead log.
        poll: Seconds between two glances at it, while anybody waits.
        loop: The backend's loop.
        submit: Puts an ask into the next group.
    """

    def __init__(self, log: Path, *, poll: float, loop: AbstractEventLoop, submit: Callable[[AnyAsk], None]) -> None:
        self.glances = 0
        """How often the log was looked at while somebody waited."""
        self._log = log
        self._poll = poll
        self._loop = loop
        self._submit = submit
        self._waiting: dict[str, dict[Claim, None]] = {}
        self._wakes = 0
        self._mark = 0
        self._seen = Log(0, 0, settled=False)
        self._timer: TimerHandle | None = None
        self._closed = False

    def mark(self) -> None:
        """A group is about to run: what happens from now on, its claims may not have seen."""
        self._mark = self._wakes

    def join(self, topics: Iterable[str]) -> list[Claim]:
        """The claims that wait for one of the topics; they wait no more."""
        claims = [claim for topic in topics for claim in self._waiting.get(topic, ())]
        for claim in claims:
            self._leave(claim)
        return claims

    def wake(self, topics: Collection[str]) -> None:
        """Let the claims on these topics look again."""
        self._wakes += 1
        for claim in self.join(topics):
            self._submit(claim)

    def settle(self, claim: Claim, outcome: Outcome[Found]) -> None:
        """Hand over what a claim found, or let it wait."""
        future = claim.future
        if isinstance(outcome, Failure):
            if not future.done():
                future.set_exception(outcome.error)
        elif future.done():
            self._give_back(claim, outcome)
        elif outcome.deliveries or claim.deadline <= self._loop.time():
            future.set_result(outcome)
        elif self._closed:
            future.set_exception(_closed())
        elif self._wakes != self._mark:
            self._submit(claim)
        else:
            self._wait(claim, outcome.due_in)

    def give_up(self, claim: Claim) -> None:
        """The receiver was cancelled: what its claim may have got goes back to the topic at once."""
        if claim.timer is not None:
            self._leave(claim)
        if claim.future.done() and not claim.future.cancelled() and claim.future.exception() is None:
            self._give_back(claim, claim.future.result())

    def close(self) -> None:
        """End every wait with `BackendClosedError`."""
        self._closed = True
        for claim in self.join(list(self._waiting)):
            claim.settle(Failure(_closed()))

    def _give_back(self, claim: Claim, found: Found) -> None:
        if found.deliveries:
            receipts = [receipt for each in found.deliveries if isinstance(receipt := each.receipt, messages.Receipt)]
            # Nobody waits for the outcome: if it fails, the leases run out.
            future: Future[None] = self._loop.create_future()
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._submit(Ask(future, write=partial(messages.unclaim, receipts=receipts), topics=(claim.wanted,)))

    def _wait(self, claim: Claim, due_in: Microseconds | None) -> None:
        longest = SAFETY if due_in is None else min(SAFETY, due_in / 1e6 + ROUNDING)
        claim.timer = self._loop.call_at(min(claim.deadline, self._loop.time() + longest), self._look, claim)
        self._waiting.setdefault(claim.wanted, {})[claim] = None
        if self._timer is None:
            self._timer = self._loop.call_later(self._poll, self._tick)

    def _leave(self, claim: Claim) -> None:
        if claim.timer is not None:
            claim.timer.cancel()
            claim.timer = None
        claims = self._waiting[claim.wanted]
        del claims[claim]
        if not claims:
            del self._waiting[claim.wanted]
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, claim: Claim) -> None:
        self._leave(claim)
        if claim.deadline <= self._loop.time():
            claim.future.set_result(Found([]))
        else:
            self._submit(claim)

    def _tick(self) -> None:
        self.glances += 1
        before, self._seen = self._seen, self._glance()
        self._timer = self._loop.call_later(self._poll, self._tick)
        if self._seen[:2] != before[:2] or not before.settled:
            self.wake(self._waiting.keys())

    def _glance(self) -> Log:
        # Only its state is asked for: opening the file and closing it again would drop SQLite's own locks on it.
        # https://www.sqlite.org/howtocorrupt.html, section 2.2
        try:
            state = self._log.stat()
        except OSError:
            return Log(0, 0, settled=True)
        return Log(state.st_mtime_ns, state.st_size, settled=abs(time_ns() - state.st_mtime_ns) > FRESH)


def _closed() -> BackendClosedError:
    return BackendClosedError("this backend was closed", remedy="Use it inside `async with`.")
