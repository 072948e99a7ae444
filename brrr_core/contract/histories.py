"""Recorded histories of one key, and whether they are linearizable: the search of Wing and Gong (1993).

A history is linearizable if its operations can be put into one order that a single register would have answered as they
were answered, and that keeps the order of those that did not overlap. Lowe's memory of what was tried ("Testing for
linearizability", 2017) keeps the search small.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random
from time import monotonic_ns
from typing import Final, Literal, TypeAlias

from brrr_core.backend import Key, Store, Swap
from brrr_core.contract.processes import as_bytes, as_text

__all__ = ["Operation", "linearizable", "perform", "portable", "read_back"]

Kind: TypeAlias = Literal["read", "write", "swap"]
KINDS: Final[tuple[Kind, ...]] = ("read", "read", "write", "swap", "swap", "swap")


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on a key, and when it was asked and answered.

    Attributes:
        kind: Which operation.
        asked: When it began, in nanoseconds of a clock that all clients share.
        answered: When it returned.
        value: What was read, or is to be there afterwards.
        expected: What a swap expected.
        took: Whether a swap took place.
    """

    kind: Kind
    asked: int
    answered: int
    value: bytes | None
    expected: bytes | None = None
    took: bool = True

    def after(self, state: bytes | None) -> tuple[bool, bytes | None]:
        """Whether a register in that state could have answered so, and its state afterwards."""
        if self.kind == "read":
            return state == self.value, state
        if self.kind == "write":
            return True, self.value
        if self.took != (state == self.expected):
            return False, state
        return True, self.value if self.took else state


async def perform(store: Store, key: Key, client: str, count: int, seed: str) -> list[Operation]:
    """Have one client do `count` random operations on a key, one after the other.

    Every value is written once only, so that a stale one is told from a new one.
    """
    random = Random(seed)  # noqa: S311 - chance that can be repeated, not a secret
    done: list[Operation] = []
    seen: bytes | None = None
    for number in range(count):
        kind, new = random.choice(KINDS), f"{client}-{number}".encode()
        asked = monotonic_ns()
        if kind == "read":
            (seen,) = await store.read([key])
            done.append(Operation(kind, asked, monotonic_ns(), seen))
        elif kind == "write":
            await store.write([(key, new)])
            done.append(Operation(kind, asked, monotonic_ns(), new))
            seen = new
        else:
            value = None if random.random() < 0.25 else new
            (took,) = await store.swap([Swap(key, seen, value)])
            done.append(Operation(kind, asked, monotonic_ns(), value, seen, took))
            seen = value if took else seen
    return done


def linearizable(history: Sequence[Operation], initial: bytes | None = None) -> bool:
    """Whether one register that held `initial` can have answered so."""
    everything = (1 << len(history)) - 1
    tried: set[tuple[int, bytes | None]] = set()
    pending = [(0, initial)]
    while pending:
        done, state = pending.pop()
        if done == everything:
            return True
        if (done, state) in tried:
            continue
        tried.add((done, state))
        left = [(place, each) for place, each in enumerate(history) if not done >> place & 1]
        # Whatever began after another operation had ended cannot come before it.
        first_end = min(each.answered for _, each in left)
        for place, each in left:
            if each.asked <= first_end:
                possible, after = each.after(state)
                if possible:
                    pending.append((done | 1 << place, after))
    return False


def portable(history: Sequence[Operation]) -> list[dict[str, object]]:
    """A history as JSON carries it."""
    return [
        {name: as_text(value) if isinstance(value, bytes) else value for name, value in asdict(each).items()}
        for each in history
    ]


def read_back(history: Sequence[dict[str, str | int | bool | None]]) -> list[Operation]:
    """What `portable` was given."""

    def value(each: object) -> bytes | None:
        return as_bytes(each) if isinstance(each, str) else None

    return [
        Operation(
            kind=each["kind"],  # type: ignore[arg-type]
            asked=int(each["asked"] or 0),
            answered=int(each["answered"] or 0),
            value=value(each["value"]),
            expected=value(each["expected"]),
            took=bool(each["took"]),
        )
        for each in history
    ]
