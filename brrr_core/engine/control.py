"""Control records: requests to cancel calls and schedules, and the failures that a handler has seen.

A fleet reads them only after the marker record exists. The first request writes the marker and waits for
`MARKER_DELAY`. Each worker looks for the marker at most once a second, in a batch that it reads anyway.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from brrr_core.backend.contracts import Key, Swap
from brrr_core.backend.steps import Reading
from brrr_core.engine.batching import retrieve_error
from brrr_core.engine.operations import Operations
from brrr_core.wire import NO_STATE, CallState, decode_state, encode_state

__all__ = [
    "FORGOTTEN",
    "MARKER",
    "MARKER_DELAY",
    "NOTHING_SEEN",
    "READINGS",
    "Control",
    "Guard",
    "Seen",
    "cancelled_key",
    "state_key",
]

FORGOTTEN: Final = Key("value", "brrr.control/forgotten")
"""The record that changes when calls were forgotten. It holds that time: unix milliseconds in decimal."""

MARKER: Final = Key("value", "brrr.control")
"""The record that marks a fleet that uses cancellation or retry. It holds its time: unix milliseconds in decimal."""

KNOWLEDGE: Final = 1.0
"""Seconds for which a worker relies on having found no marker."""

MARKER_DELAY: Final = 2.0
"""Seconds after which every worker knows the marker: `KNOWLEDGE`, and time for a read that is under way."""


YOUNG: Final = 60.0
"""Seconds for which a program waits for a marker that another one wrote. It covers the differences between clocks."""


READINGS: Final = (Reading("value"), Reading("call"), Reading("pending_returns"))
"""The records that a worker reads with each message."""

CONTROL_READINGS: Final = (*READINGS, Reading("value", "brrr.state/"), Reading("value", "brrr.cancelled/", "root_id"))
"""The same in a fleet that uses cancellation or retry."""


class Seen(NamedTuple):
    """The control records of one message.

    Attributes:
        state: The state of its call.
        root_cancelled: Whether its schedule is cancelled.
    """

    state: CallState = NO_STATE
    root_cancelled: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Guard:
    """The state of its call that a run has read. The run takes effect only while the call has this state.

    Two runs of one call can overlap. If one gets `Cancelled` at a call without a value, the other may find that value
    and continue. So a run compares the state after it has read values, and before it puts calls or ends the call. If a
    request is written later, only runs that find the same values see it.

    Attributes:
        call_hash: The call.
        state: Its state.
    """

    call_hash: str
    state: CallState

    @property
    def key(self) -> Key:
        """Key of the record."""
        return state_key(self.call_hash)

    @property
    def record(self) -> bytes | None:
        """The record, for a step that compares it."""
        return None if self.state == NO_STATE else encode_state(self.state)

    def allows(self, stored: CallState) -> bool:
        """Whether the call was not cancelled, retried or given `Cancelled` since. It may have seen more failures."""
        known = self.state
        return (known.cancel, known.cancelled_at, known.retries) == (stored.cancel, stored.cancelled_at, stored.retries)


def state_key(call_hash: str) -> Key:
    """Return the key of the state of a call."""
    return Key("value", f"brrr.state/{call_hash}")


def cancelled_key(root_id: str) -> Key:
    """Return the key of the record of a cancelled schedule."""
    return Key("value", f"brrr.cancelled/{root_id}")


class Control:
    """Reads and changes the control records for one connection.

    Attributes:
        in_use: Whether this connection has seen the marker. The marker is never deleted.
        on_forgotten: Called when calls were forgotten, because the connection may have their values in its memory.
    """

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._time = asyncio.get_running_loop().time
        self._looked_at = float("-inf")
        self._look: tuple[float, asyncio.Future[list[bytes | None]]] | None = None
        self._forgotten: bytes | None = None
        self.in_use = False
        self.on_forgotten: Callable[[], object] = int
        operations.readings = self.readings

    @property
    def due(self) -> bool:
        """Whether there is something to read: the marker exists, or it is time to look for it."""
        return self.in_use or self._time() - self._looked_at >= KNOWLEDGE

    def look(self) -> "asyncio.Future[list[bytes | None]] | None":
        """Begin to read the marker if this connection has not looked for it within `KNOWLEDGE` seconds.

        Deliveries share the read, which also tells whether calls were forgotten. Pass it to `known`, or to `seen`.
        """
        now = self._time()
        if now - self._looked_at < KNOWLEDGE:
            return None
        if self._look is None or self._look[1].done() or now - self._look[0] >= KNOWLEDGE:
            self._look = now, self._operations.read([MARKER, FORGOTTEN])
            self._look[1].add_done_callback(retrieve_error)  # all its deliveries may fail before they await it
        return self._look[1]

    async def known(self, looking: "asyncio.Future[list[bytes | None]] | None") -> bool:
        """Wait for a read of the marker, if there is one. Return whether the marker exists.

        Raises:
            BackendError: The store failed.
        """
        if looking is not None:
            began = self._look[0] if self._look is not None and self._look[1] is looking else self._looked_at
            await asyncio.wait({looking})  # not `await looking`: other deliveries wait for it too
            marker, forgotten = looking.result()
            self.in_use = self.in_use or marker is not None
            if forgotten != self._forgotten:
                self._forgotten = forgotten
                self.on_forgotten()
            self._looked_at = max(self._looked_at, began)
        return self.in_use

    def readings(self) -> Sequence[Reading]:
        """The records to read with each message."""
        return CONTROL_READINGS if self.in_use else READINGS

    def keys(self, root_id: str, call_hash: str) -> list[Key]:
        """Return the control keys that a delivery reads in the batch of its call and value."""
        return [state_key(call_hash), cancelled_key(root_id)] if self.in_use else []

    async def seen(
        self,
        looking: "asyncio.Future[list[bytes | None]] | None",
        keys: Sequence[Key],
        records: Sequence[bytes | None],
        root_id: str,
        call_hash: str,
    ) -> Seen:
        """Return the control records of a message.

        Args:
            looking: From `look`.
            keys: From `keys`.
            records: The records of these keys.
            root_id: The schedule of the message.
            call_hash: Its call.

        Raises:
            BackendError: The store failed.
        """
        if not await self.known(looking):
            return NOTHING_SEEN
        if not keys:
            records = await self._operations.read(self.keys(root_id, call_hash))
        state, cancelled = records
        return Seen(decode_state(state), cancelled is not None)

    async def is_cancelled(self, root_id: str) -> bool:
        """Whether a schedule is cancelled. This reads nothing while the fleet uses no cancellation."""
        return await self.known(self.look()) and root_id in await self.cancelled_roots([root_id])

    async def cancelled_roots(self, root_ids: Sequence[str]) -> set[str]:
        """Return the schedules that are cancelled."""
        records = await self._operations.read([cancelled_key(root_id) for root_id in root_ids])
        return {root_id for root_id, record in zip(root_ids, records, strict=True) if record is not None}

    async def guard(self, call_hash: str, state: CallState) -> Guard | None:
        """Return the guard of a run that knows this state of its call; None if the fleet uses no cancellation."""
        return Guard(call_hash, state) if self.due and await self.known(self.look()) else None

    async def states(self, call_hashes: Sequence[str]) -> list[CallState]:
        """Return the states of calls."""
        return [decode_state(record) for record in await self._operations.read(list(map(state_key, call_hashes)))]

    async def update(self, call_hash: str, change: Callable[[CallState], CallState]) -> CallState:
        """Change the state of a call, and return the new state. `change` may be called several times.

        Raises:
            BackendError: A backend failed. The state may have changed anyway.
        """
        key = state_key(call_hash)
        while True:
            (record,) = await self._operations.read([key])
            state = decode_state(record)
            if state.cancel or state.retries:
                self.in_use = True  # they are written after the marker
            changed = change(state)
            if changed == state:
                return state
            (done,) = await self._operations.swap([Swap(key, record, encode_state(changed))])
            if done:
                return changed

    async def mark(self) -> None:
        """Write the marker if it is absent. Return when all workers know it.

        A program that finds a young marker waits too: the program that wrote it may not have waited long enough.
        """
        if self.in_use:
            return
        (record,) = await self._operations.read([MARKER])
        now = self._operations.clock() * 1000
        if record is None:
            await self._operations.swap([Swap(MARKER, None, b"%d" % now)])
        if record is None or not record.isdigit() or abs(now - int(record)) < YOUNG * 1000:
            await asyncio.sleep(MARKER_DELAY)
        self.in_use = True


NOTHING_SEEN: Final = Seen()
