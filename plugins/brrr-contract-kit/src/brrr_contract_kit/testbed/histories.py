"""Histories of operations on one key, and a check that they are linearizable: the search of Wing and Gong (1993).

A history is linearizable if one order of its operations explains all their results, as if a single register had
executed them one after another. The order must keep operations in sequence if they did not overlap. As in Lowe,
"Testing for linearizability" (2017), the search remembers the states that it has tried.
"""

from asyncio import gather
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from random import Random
from time import monotonic_ns
from typing import Final, Literal, TypeAlias

from brrr_contract_kit.testbed.checks import check
from brrr_contract_kit.testbed.context import Context
from brrr_contract_kit.testbed.processes import as_bytes, as_text
from brrr_core.backend import Key, Store, Swap

__all__ = ["Operation", "check_histories", "check_history", "from_json", "linearizable", "perform", "to_json"]

Kind: TypeAlias = Literal["read", "write", "swap"]
KINDS: Final[tuple[Kind, ...]] = ("read", "read", "write", "swap", "swap", "swap")


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on a key, with its times and result.

    Attributes:
        kind: The operation.
        begun: Time of the call, in nanoseconds of a clock that all clients share.
        ended: Time of the return, by the same clock.
        value: The value that was read, or the new value.
        expected: The value that a swap expected.
        succeeded: Whether a swap returned True.
    """

    kind: Kind
    begun: int
    ended: int
    value: bytes | None
    expected: bytes | None = None
    succeeded: bool = True

    def after(self, state: bytes | None) -> tuple[bool, bytes | None]:
        """Return if a register in that state could have given this result, and its next state."""
        if self.kind == "read":
            return state == self.value, state
        if self.kind == "write":
            return True, self.value
        if self.succeeded != (state == self.expected):
            return False, state
        return True, self.value if self.succeeded else state


async def perform(store: Store, key: Key, client: str, count: int, seed: str) -> list[Operation]:
    """Perform `count` random operations on a key, one after another, as one client.

    Every value is written only once, so that a stale value can be recognized.
    """
    random = Random(seed)  # noqa: S311 - repeatable randomness, not a secret
    done: list[Operation] = []
    seen: bytes | None = None
    for number in range(count):
        kind, new = random.choice(KINDS), f"{client}-{number}".encode()
        begun = monotonic_ns()
        if kind == "read":
            (seen,) = await store.read([key])
            done.append(Operation(kind, begun, monotonic_ns(), seen))
        elif kind == "write":
            await store.write([(key, new)])
            done.append(Operation(kind, begun, monotonic_ns(), new))
            seen = new
        else:
            value = None if random.random() < 0.25 else new
            (succeeded,) = await store.swap([Swap(key, seen, value)])
            done.append(Operation(kind, begun, monotonic_ns(), value, seen, succeeded))
            seen = value if succeeded else seen
    return done


def linearizable(history: Sequence[Operation], initial: bytes | None = None) -> bool:
    """Whether one register with the value `initial` explains the history."""
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
        # An operation that began after another had ended cannot come before it.
        first_end = min(each.ended for _, each in left)
        for place, each in left:
            if each.begun <= first_end:
                possible, after = each.after(state)
                if possible:
                    pending.append((done | 1 << place, after))
    return False


async def check_histories(ctx: Context, stores: Sequence[Store]) -> None:
    """Let each store be a client of one key, in six seeded rounds, and check that each history is linearizable."""
    for round_ in range(6):
        key, seed = ctx.key(), f"{ctx.random.random()}"
        parts = await gather(
            *(perform(store, key, f"{number}", 12, f"{seed} {number}") for number, store in enumerate(stores))
        )
        check_history([*chain.from_iterable(parts)], round_)


def check_history(history: Sequence[Operation], round_: int) -> None:
    """Check that the history of one round is linearizable."""
    check(
        linearizable(history),
        f"round {round_}: no order of these operations on one key explains their results: "
        + "; ".join(map(str, sorted(history, key=lambda each: each.begun))),
    )


def to_json(history: Sequence[Operation]) -> list[dict[str, object]]:
    """Return a history as JSON values."""
    return [
        {name: as_text(value) if isinstance(value, bytes) else value for name, value in asdict(each).items()}
        for each in history
    ]


def from_json(history: Sequence[dict[str, str | int | bool | None]]) -> list[Operation]:
    """Return the history of which `to_json` made these values."""

    def value(each: object) -> bytes | None:
        return as_bytes(each) if isinstance(each, str) else None

    return [
        Operation(
            kind=each["kind"],  # type: ignore[arg-type]
            begun=int(each["begun"] or 0),
            ended=int(each["ended"] or 0),
            value=value(each["value"]),
            expected=value(each["expected"]),
            succeeded=bool(each["succeeded"]),
        )
        for each in history
    ]
