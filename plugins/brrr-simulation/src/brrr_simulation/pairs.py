"""Pairs of operations of two processes on one call: the second takes effect while the first is running or cut off.

Most bugs of a distributed engine hide in such a pair. The pairs that no history has hit show what the histories lack.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

from brrr_core.backend import Delivery, Key, Step, Swap
from brrr_core.errors import MalformedRecordError
from brrr_core.wire import decode_message

__all__ = ["Pairs"]

CONTROL: Final = "brrr.control"
"""Records with this prefix do not belong to a call."""


class Pairs:
    """Counts the pairs of many histories.

    Attributes:
        counts: How often each pair occurred.
        seen: How often each operation occurred.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.seen: Counter[str] = Counter()
        self._open: defaultdict[str, dict[tuple[str, object], str]] = defaultdict(dict)
        """The labels of running operations, by call hash and by operation. They are first halves of pairs."""
        self._cut: set[tuple[str, object]] = set()
        self._items: list[Sequence[Any]] = []
        """Keeps the items of all operations alive, because their ids identify the operations."""

    def begin(self) -> None:
        """Begin another history."""
        self._open.clear()
        self._cut.clear()
        self._items.clear()

    def effect(self, process: str, name: str, items: Sequence[Any]) -> None:
        """Record that an operation takes effect."""
        operation = (process, id(items))
        self._items.append(items)
        for call_hash, label in _labels(name, items):
            self.seen[label] += 1
            first = self._open[call_hash]
            for late in [each for each in first if each[0] == process and each in self._cut]:
                del first[late]  # its process has come back
            for (other, _), earlier in first.items():
                if other != process:
                    self.counts[earlier, label] += 1
            first[operation] = label

    def ended(self, process: str, name: str, items: Sequence[Any], *, cut: bool) -> None:
        """Record that a process has the answer of an operation, or that a fault has cut it off from the answer."""
        operation = (process, id(items))
        if cut:
            self._cut.add(operation)
            return
        for call_hash, _ in _labels(name, items):
            self._open[call_hash].pop(operation, None)

    def table(self) -> str:
        """Return the pairs that were never hit, by their first operation."""
        names = sorted(self.seen)
        hit = f"{len(self.counts)} of {len(names) ** 2} ordered pairs of {len(names)} operations were hit"
        lines = [f"{hit}. Never hit while the first one was running or cut off:"]
        for first in names:
            never = [name for name in names if (first, name) not in self.counts]
            text = "all" if len(never) == len(names) else ", ".join(never) or "none"
            lines.append(f"{first:16} {self.seen[first]:8}  {text}")
        return "\n".join(lines)


def _labels(name: str, items: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Yield the call hashes of an operation, each with a label for its effect on the call."""
    verb = name.partition(".")[2]
    for item in items:
        if isinstance(item, Step):
            yield from _of_step(item)
        elif isinstance(item, Swap):
            yield from _of_key("delete" if item.new is None else "swap", item.key)
        elif isinstance(item, Key):
            yield from _of_key(verb, item)
        elif isinstance(item, Delivery):
            yield from _of_message(verb, item.body)
        elif isinstance(item, bytes):
            yield from _of_message(verb, item)
        elif isinstance(item, tuple):
            yield from _of_key(verb, cast("tuple[Key, bytes]", item)[0])


def _of_step(step: Step) -> Iterator[tuple[str, str]]:
    returned = {key.call_hash for key, _ in step.writes if key.kind == "value"}
    for call_hash in returned:
        yield call_hash, "step return"
    for message in step.messages:
        yield from _of_message("step wake" if returned else "step put", message.body)
    if not returned:
        for delivery in step.acks:
            yield from _of_message("step defer", delivery.body)


def _of_key(verb: str, key: Key) -> Iterator[tuple[str, str]]:
    """Yield the call hash of a key: for `brrr.state/CALL` it is `CALL`."""
    prefix, _, rest = key.call_hash.partition("/")
    if rest and prefix != CONTROL:
        yield rest.partition("/")[0], f"{verb} {prefix.removeprefix('brrr.')}"
    elif prefix != CONTROL:
        yield key.call_hash, f"{verb} {'pending' if key.kind == 'pending_returns' else key.kind}"


def _of_message(verb: str, body: bytes) -> Iterator[tuple[str, str]]:
    try:
        yield decode_message(body).call_hash, verb
    except MalformedRecordError:
        return
