"""Watches every effect on a memory space, and notes where an invariant of DESIGN.md section 4 does not hold."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from brrr_core.backend import Key, Swap
from brrr_core.backend.memory.space import Space
from brrr_core.wire import decode_message, decode_pending
from tests.support.instrumented import Operation

__all__ = ["Observer"]


class Observer:
    """Told of each effect in the turn in which it took place, by all that work on one space.

    Attributes:
        violations: What did not hold, as text. Empty is good.
        puts: How often a message of each call was put.
    """

    def __init__(self, space: Space) -> None:
        self.violations: list[str] = []
        self.puts: Counter[str] = Counter()
        self._space = space
        self._ever_put: set[str] = set()

    def __call__(self, operation: Operation, result: Any) -> None:
        if operation.name == "queue.put":
            hashes = [decode_message(body).call_hash for body in operation.items]
            self.puts.update(hashes)
            self._ever_put.update(hashes)
        elif operation.name == "store.write":
            self.violations += [f"I3: {key} was overwritten" for key, _ in operation.items if key.kind != "call"]
        elif operation.name == "store.swap":
            for swap, done in zip(operation.items, result, strict=True):
                if done:
                    self._swapped(swap)
        self._nobody_is_forgotten(operation)

    def forget(self) -> None:
        """Somebody lost messages on purpose: what was put until now need not be anywhere."""
        self.puts.clear()

    def _swapped(self, swap: Swap) -> None:
        if swap.key.kind == "value" and not (swap.expected is None and swap.new is not None):
            self.violations.append(f"I3: {swap.key} was changed")
        if swap.key.kind == "pending_returns" and swap.new is not None:
            marked = decode_pending(swap.new).scheduled_at is not None
            if marked and swap.key.call_hash not in self._ever_put:
                self.violations.append(f"I1: {swap.key.call_hash} is marked as scheduled, and was never put")

    def _nobody_is_forgotten(self, operation: Operation) -> None:
        records = self._space.records
        unfinished = {h for h in self.puts if Key("value", h) not in records}
        queued = set(self._messages())
        lost = unfinished - queued
        if not lost:
            return
        for key, record in records.items():
            alive = key.call_hash in queued or Key("value", key.call_hash) not in records
            if key.kind == "pending_returns" and alive:
                waiting = {entry.call_hash for entry in decode_pending(record).returns}
                lost -= waiting - {key.call_hash}  # a call's return to itself wakes nothing
        self.violations += [f"I2: {h} is nowhere after {operation.number}, {operation.name}" for h in lost]

    def _messages(self) -> Iterator[str]:
        for topic in self._space.topics.values():
            bodies = [
                *(message.body for message in topic.ready),
                *(message.body for _, _, message in topic._delayed),
                *(hold.message.body for _, _, hold in topic._leases if hold.live),
                *(letter.body for letter in topic.dead),
            ]
            for body in bodies:
                yield decode_message(body).call_hash
