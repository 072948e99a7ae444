"""The waits of one run that end at a time: sleeps, and calls and events with a deadline."""

from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from math import ceil, inf

from brrr_core.backend.contracts import Key, Swap
from brrr_core.engine.calls import Child, Wait
from brrr_core.engine.operations import Operations
from brrr_core.engine.wait_limits import check_wait
from brrr_core.errors import ArgumentError, CapabilityError
from brrr_core.wire import EXPIRED, Call, decode_due

__all__ = ["Waits", "reserved"]


class Waits:
    """The waits of one run.

    Args:
        call: The call.
        operations: The operations of its connection.
        due: The due time of the timer message that began the run, in unix seconds; 0 for another message.
        longest: The longest wait that the queue supports, in seconds.
        retries: How often the call was retried after it had failed. Each retry begins new waits.
    """

    __slots__ = ("_call", "_due", "_longest", "_names", "_now", "_operations", "_prefix")

    def __init__(self, call: Call, operations: Operations, *, due: float, longest: float, retries: int = 0) -> None:
        self._prefix = f"{call.call_hash}/retry-{retries}-" if retries else f"{call.call_hash}/"
        self._due = due
        self._now: float | None = None
        self._call = call
        self._operations = operations
        self._longest = longest
        self._names: set[str] = set()

    @property
    def begun(self) -> bool:
        """Whether the run has made a wait."""
        return bool(self._names)

    @property
    def now(self) -> float:
        """Time of the first wait, in unix seconds; not before the due time of the timer message, if clocks differ."""
        if self._now is None:
            self._now = max(self._due, self._operations.clock())
        return self._now

    def check(self, seconds: float) -> None:
        """Refuse a wait or a delay that the queue or the store does not support.

        Raises:
            CapabilityError: The queue cannot delay, and the time is longer than a lease.
            WaitTooLongError: The time is longer than half of the store's `ttl`.
        """
        name = self._call.task_name
        check_wait(f"a wait of the handler {name!r}", seconds, self._operations.expires_after)
        if seconds > self._longest:
            raise CapabilityError(
                f"the handler {name!r} waits for {seconds:g} s, but its queue cannot delay messages",
                remedy=f"Wait for at most one lease, {self._longest:g} s, or use a queue with delays.",
            )

    def check_endless(self, event: str) -> None:
        """Refuse to wait for an event without a deadline if the values that the call has read could expire.

        Raises:
            WaitTooLongError: The store has a `ttl`.
        """
        check_wait(f"the wait for the event {event!r}", inf, self._operations.expires_after)

    def begin(self, due: float, key: str | None, *, alone: bool) -> Wait:
        """Begin a wait that ends at `due`, in unix seconds.

        A wait is identified by its position among the waits of the handler, or by its key. Concurrent helpers make
        their waits in any order, so each of their waits needs a key.

        Args:
            due: The time.
            key: The key.
            alone: Whether the handler itself makes the wait, and not another task.

        Raises:
            ArgumentError: The wait needs a key, or its key was used before in this run.
            CapabilityError: The queue cannot delay, and the wait is longer than a lease.
            WaitTooLongError: The wait is longer than half of the store's `ttl`.
        """
        self.check(due - self.now)
        if key is not None:
            name = f"key-{sha256(key.encode()).hexdigest()[:32]}"
            if name in self._names:
                raise ArgumentError(
                    f"the handler {self._call.task_name!r} waits twice with the key {key!r}",
                    remedy="Give each sleep, deadline and event deadline its own key.",
                )
        elif not alone:
            raise ArgumentError(
                f"the handler {self._call.task_name!r} waits without a key in a task other than its own",
                remedy="Pass `key=`, a text that is the same for this wait in each run.",
            )
        else:
            name = str(len(self._names))
        self._names.add(name)
        return Wait(f"{self._prefix}{name}", ceil(due * 1000) / 1000)

    async def look_up(
        self, children: Sequence[Child], read: Callable[[Sequence[str]], Awaitable[dict[str, bytes | None]]]
    ) -> tuple[list[Child], list[bytes | None]]:
        """Look up children of which some have waits. Store the outcome of each wait that is over.

        Args:
            children: The children.
            read: Returns the values of call hashes.

        Returns:
            The children, with the due times that are stored, and their values. The value of a child whose deadline
            expired is `EXPIRED`.
        """
        hashes = [child.call.call_hash for child in children]
        found = await read([*hashes, *reserved(children)])
        known: list[Child] = []
        over: dict[str, bytes] = {}
        for child in children:
            wait = child.wait
            if wait is not None and (record := found[wait.timer]) is not None:
                wait = Wait(wait.name, decode_due(record), running=True)
            if wait is not None and found[wait.outcome] is None:
                if found[child.call.call_hash] is not None or (child.is_sleep and wait.due <= self.now):
                    over[wait.outcome] = b""
                elif wait.running and wait.due <= self.now:
                    over[wait.outcome] = EXPIRED
            known.append(child._replace(wait=wait))
        if over:  # another run may decide at the same time, and the first one wins
            swaps = [Swap(Key("value", name), None, outcome) for name, outcome in over.items()]
            won = await self._operations.swap(swaps)
            lost = [swap.key.call_hash for swap, first in zip(swaps, won, strict=True) if not first]
            found |= over
            found |= await read(lost)
        return known, [
            EXPIRED if child.wait is not None and found[child.wait.outcome] == EXPIRED else found[child.call.call_hash]
            for child in known
        ]


def reserved(children: Sequence[Child]) -> list[str]:
    """Return the reserved call hashes of the waits of children."""
    return [name for child in children if child.wait is not None for name in (child.wait.outcome, child.wait.timer)]
