"""The random choices of one history: the latency of operations, and when each fault strikes.

All choices come from the seed. Each fault has a number, and a replay can leave out faults by number. So a failing
history shrinks to the faults that it needs.
"""

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

__all__ = ["KINDS", "Dice", "Fault"]

KINDS: Final[Mapping[str, str]] = {
    "slow": "an operation took longer than a lease to arrive",
    "refused": "an operation failed before its effect",
    "lost": "an operation took effect, and its answer was lost",
    "partial": "a batch took effect only partly, and failed",
    "duplicate": "a message was put twice",
    "reorder": "a receive took messages in another order",
    "early": "a receive got nothing, although a message was ready",
    "crash": "a process died",
    "freeze": "a process did not run for longer than a lease",
    "stop": "a worker was stopped gracefully",
    "jump": "the clock of a machine was set forward or back",
    "away": "the backends were unavailable for some time",
    "forgotten": "the queue lost all its messages, and the root calls were redriven",
}
"""The kinds of faults, with their texts in stories."""

OFTEN: Final[Mapping[str, float]] = {
    "slow": 0.004,
    "refused": 0.03,
    "lost": 0.03,
    "partial": 0.04,
    "duplicate": 0.03,
    "reorder": 0.2,
    "early": 0.03,
    "crash": 0.012,
    "freeze": 0.006,
}
"""The probability of each kind at one operation, before it is multiplied with a scale."""

SCALES: Final = (0.3, 0.6, 1.2)
"""Factors for these probabilities in large histories. Each history takes one of them."""

LIMIT: Final = 20
"""The most faults of a history."""

CALM: Final = 0.05
"""Share of the histories without any fault. In these, no work may be repeated."""


class Fault(NamedTuple):
    """A fault that struck.

    Attributes:
        number: Its number in its history.
        at: When it struck, in virtual seconds.
        kind: Its kind.
        process: The process that it struck.
        what: The operation, or the other target.
    """

    number: int
    at: float
    kind: str
    process: str
    what: str

    def __str__(self) -> str:
        return f"{self.at:12.3f}  {self.process:10} fault {self.number}: {KINDS[self.kind]} ({self.what})"


class Dice:
    """The choices of one history.

    Args:
        seed: The seed.
        dropped: The numbers of the faults to leave out.
        limit: The most faults.
        kinds: The kinds that can strike; a random choice by default.
        scales: Factors for the probabilities of `OFTEN`, of which one is chosen.

    Attributes:
        random: Random numbers of the seed.
        calm: Whether faults have ended.
        struck: The faults, in order.
    """

    def __init__(
        self,
        seed: int,
        *,
        dropped: Collection[int] = (),
        limit: int = LIMIT,
        kinds: Collection[str] | None = None,
        scales: Sequence[float] = SCALES,
    ) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a simulation
        self.calm = False
        self.struck: list[Fault] = []
        self._dropped = frozenset(dropped)
        self._limit = limit
        self._numbers = 0
        chosen = self.random.sample(list(KINDS), self.random.randint(5, len(KINDS)))
        if self.random.random() < CALM:
            chosen.clear()
        self.kinds = frozenset(chosen if kinds is None else kinds)
        scale = self.random.choice(scales)
        self._rates = {kind: scale * rate for kind, rate in OFTEN.items() if kind in self.kinds}
        self._latency = self.random.choice((0.002, 0.02, 0.2))

    @property
    def counts(self) -> Counter[str]:
        """The number of faults by kind."""
        return Counter(fault.kind for fault in self.struck)

    def latency(self) -> float:
        """Return the seconds that a message takes on the network."""
        return self._latency * self.random.random()

    def strikes(self, kind: str, process: str, what: str, at: float) -> bool:
        """Whether a fault strikes here."""
        rate = self._rates.get(kind)
        if rate is None or self.calm or self.random.random() >= rate:
            return False
        return self.strike(kind, process, what, at)

    def strike(self, kind: str, process: str, what: str, at: float) -> bool:
        """Let a fault strike. Return False if it is left out."""
        if self.calm:
            return False
        self._numbers += 1
        if self._numbers in self._dropped:
            return False
        self.struck.append(Fault(self._numbers, at, kind, process, what))
        if len(self.struck) >= self._limit:
            self.calm = True
        return True
