"""Watch every effect on a memory space, and record violations of the invariants in docs/explanation/engine.md."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from brrr_core.backend import Key, Step, Swap
from brrr_core.backend.memory.space import Space
from brrr_core.wire import FAILURE_PREFIX, decode_message, decode_pending
from brrr_testkit.faults.instrument import Operation

__all__ = ["Observer"]

TICK = 20
"""Bytes of a tick in the cursor of a recurring schedule."""

KEEPS_ALL = {"store.read", "queue.extend", "cache.increment"}
"""Operations that change no record, and neither add a message nor remove one."""

CHANGED = ("brrr.state/", "brrr.cancelled/", "brrr.buried/", "brrr.attempt/")
"""Prefixes of the reserved values that may change."""


class Observer:
    """Checks each effect of all workers on one space, in the turn of the loop in which it took place.

    Attributes:
        violations: The violated invariants as text; empty if all hold.
        puts: Number of messages that were put for each call.
    """

    def __init__(self, space: Space) -> None:
        self.violations: list[str] = []
        self.puts: Counter[str] = Counter()
        self._space = space
        self._ever_put: set[str] = set()

    def __call__(self, operation: Operation, result: Any) -> None:
        if operation.name == "queue.put":
            self._put(operation.items)
        elif operation.name == "store.write":
            self._wrote([key for key, _ in operation.items])
        elif operation.name == "store.swap":
            for swap, done in zip(operation.items, result, strict=True):
                if done:
                    self._swapped(swap)
        elif operation.name == "steps.commit":
            for step, done in zip(operation.items, result, strict=True):
                if done is not None:
                    self._stepped(step)
        if operation.name not in KEEPS_ALL:
            self._check_unfinished_calls(operation)

    def forget(self) -> None:
        """Forget earlier puts, after the test lost messages on purpose."""
        self.puts.clear()

    def _put(self, bodies: Iterable[bytes]) -> None:
        hashes = [decode_message(body).call_hash for body in bodies]
        self.puts.update(hashes)
        self._ever_put.update(hashes)

    def _wrote(self, keys: Iterable[Key]) -> None:
        kept = [key for key in keys if key.kind != "call" and not key.call_hash.startswith(CHANGED)]
        self.violations += [f"I3: {key} was overwritten" for key in kept]

    def _stepped(self, step: Step) -> None:
        """Check the effects of a step in their order. A compared record that it changes is swapped."""
        expected = dict(step.expected)
        for key, new in step.writes:
            self._set(key, new, expected)
        self._put(message.body for message in step.messages)
        for key, mark in step.marks:
            self._set(key, mark, expected)

    def _set(self, key: Key, new: bytes | None, expected: Mapping[Key, bytes | None]) -> None:
        if key in expected:
            self._swapped(Swap(key, expected[key], new))
        else:
            self._wrote([key])

    def _swapped(self, swap: Swap) -> None:
        if swap.key.call_hash.startswith("brrr.cron/"):
            if (swap.new or b"")[:TICK] < (swap.expected or b"")[:TICK]:
                self.violations.append(f"{swap.key} was moved back from {swap.expected!r} to {swap.new!r}")
        elif swap.key.kind == "value" and not swap.key.call_hash.startswith(CHANGED):
            if swap.new is None and swap.expected is not None and swap.expected.startswith(FAILURE_PREFIX):
                self.puts.pop(swap.key.call_hash, None)  # a retry deleted the failure: the call is not scheduled
            elif swap.expected is not None or swap.new is None:
                self.violations.append(f"I3: {swap.key} was changed")
        if swap.key.kind == "pending_returns" and swap.new is not None:
            marked = decode_pending(swap.new).scheduled_at is not None
            if marked and swap.key.call_hash not in self._ever_put:
                self.violations.append(f"I1: {swap.key.call_hash} is marked as scheduled, but was never put")

    def _check_unfinished_calls(self, operation: Operation) -> None:
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
                lost -= waiting - {key.call_hash}  # a return to the call itself wakes nothing
        self.violations += [f"I2: {h} is nowhere after {operation.number}, {operation.name}" for h in lost]

    def _messages(self) -> Iterator[str]:
        for topic in self._space.topics.values():
            bodies = [
                *(message.body for message in topic.ready),
                *(message.body for _, _, message in topic._delayed),
                *(hold.message.body for _, _, hold in topic._leases if hold.live),
                *(letter.body for _, letter in topic.dead),
            ]
            yield from map(_call_hash, bodies)


@lru_cache(maxsize=1024)
def _call_hash(body: bytes) -> str:
    """Return the call of a message. The same messages are looked at after each operation."""
    return decode_message(body).call_hash
