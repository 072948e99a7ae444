"""The ledger of one history: compares the messages of each schedule with the counts that the engine keeps of them."""

from collections import Counter, defaultdict
from typing import Final

from brrr_core.backend import Key
from brrr_core.engine.roots import SHARED_LIMIT, parse_root_id, split_timer
from brrr_core.wire import count_key, decode_message, decode_pending
from brrr_simulation.model import Model

__all__ = ["PLENTY", "Ledger"]

PLENTY: Final = 1_000_000
"""A limit that no schedule reaches."""

LOST: Final = 40
"""The most counted messages that a single fault keeps from being put: a batch of a worker."""


class Ledger:
    """The messages of each schedule, and the counts that the engine keeps of them.

    A message may be put again without being counted: the same body is on its topic then, or its lease ended, or its put
    arrived late.

    Args:
        model: The backends.

    Attributes:
        wrong: What was noticed so far.
        policy_limit: The limit of the schedules without an own one.
        handed_over: The calls that were put for another schedule, because that of an earlier message is over its limit.
    """

    def __init__(self, model: Model) -> None:
        self.wrong: list[str] = []
        self.policy_limit = PLENTY
        self.handed_over: set[str] = set()
        self._counters = model.counters
        self._records = model.records
        self._loose = model.loose
        self._present: Counter[bytes] = Counter()
        self._put: Counter[str] = Counter()
        self._counted: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._roots_of: defaultdict[str, set[str]] = defaultdict(set)

    @property
    def over(self) -> set[str]:
        """The schedules that were refused a message, and are over their limits."""
        return {root_id for root_id in self._refused if self.is_over(root_id)}

    def spawned(self, root_id: str) -> int:
        """Return how many messages of a schedule were counted, with those that were refused."""
        own = parse_root_id(root_id).spawn_limit
        begin = 0 if own is None else SHARED_LIMIT - own
        return self._counters.get(count_key(root_id), begin) - begin

    def limit_of(self, root_id: str) -> int:
        """Return the limit of a schedule."""
        own = parse_root_id(root_id).spawn_limit
        return self.policy_limit if own is None else own

    def is_over(self, root_id: str) -> bool:
        """Whether a schedule may put no more messages."""
        return self.spawned(root_id) >= self.limit_of(root_id)

    def may_wait(self, call_hash: str) -> bool:
        """Whether a call may wait in vain, because a schedule that put it is over its limit."""
        return any(map(self.is_over, self._roots_of[call_hash]))

    def keeps(self, call_hash: str) -> bool:
        """Whether a pending record holds a parent whose schedule was refused messages."""
        pending = decode_pending(self._records[Key("pending_returns", call_hash)])
        return any(entry.root_id in self._refused for entry in pending.returns if entry.call_hash != call_hash)

    def put(self, body: bytes) -> None:
        """A message was put."""
        root_id, call_hash = decode_message(body)
        _, root_id = split_timer(root_id)
        roots = self._roots_of[call_hash]
        if root_id not in roots:
            if any(map(self.is_over, roots)):
                self.handed_over.add(call_hash)
            roots.add(root_id)
        self._put[root_id] += 1
        self._present[body] += 1
        if self._present[body] == 1 and body not in self._loose:
            self._counted[root_id] += 1
            if self._counted[root_id] > self.spawned(root_id):
                self.wrong.append(
                    f"{self._counted[root_id]} messages of {root_id} were put, and {self.spawned(root_id)} counted"
                )
            elif self._counted[root_id] > self.limit_of(root_id):
                self.wrong.append(f"more messages of {root_id} were put than its limit of {self.limit_of(root_id)}")

    def removed(self, body: bytes) -> None:
        """A message was removed."""
        self._present[body] -= 1

    def counted(self, counter: str, amount: int) -> None:
        """A counter was increased."""
        root_id = counter.removeprefix("brrr_count/")
        if root_id != counter:
            above = self.spawned(root_id) - self.limit_of(root_id)
            if above > 0:
                self._refused[root_id] += min(amount, above)

    def check(self, faults: int) -> list[str]:
        """Return the schedules for which far more messages were counted than put.

        Args:
            faults: The number of faults that struck. Each may have struck a worker between its count and its put.
        """
        found = list(self.wrong)
        for root_id, put in self._put.items():
            lost = self.spawned(root_id) - self._refused[root_id] - put
            if lost > LOST * faults:
                found.append(f"{lost} messages of {root_id} were counted, and not put")
        return found
