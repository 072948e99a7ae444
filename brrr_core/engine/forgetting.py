"""Forget calls: delete their records, to free space, and to compute the calls again when they are needed.

The value goes last. So if the program ends between two steps, the call still has its outcome, and repeating the
request completes it. Workers keep values in memory. They drop these when they see the record `FORGOTTEN`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from brrr_core.backend.contracts import Key, Kind
from brrr_core.engine.attempts import attempt_key
from brrr_core.engine.control import FORGOTTEN, MARKER_DELAY, Control, state_key
from brrr_core.engine.operations import Operations
from brrr_core.engine.stranding import note_key
from brrr_core.errors import StillNeededError
from brrr_core.wire import CallState, PendingReturns, decode_pending, decode_state

__all__ = ["Forgetter", "Forgotten", "ToForget"]

BATCH: Final = 100
"""Calls whose records are deleted together."""

_KINDS: Final[Sequence[Kind]] = ("pending_returns", "call", "value")
"""The records of a call in the order in which they are deleted."""


class ToForget(NamedTuple):
    """A call to forget.

    Attributes:
        call_hash: The call.
        waits: The reserved call hashes of its sleeps and deadlines; None if they are not known. Then the call counts as
            retried, and its old waits stay in the store.
    """

    call_hash: str
    waits: Sequence[str] | None = None


class Forgotten(NamedTuple):
    """The result of a request. Calls without records are in neither.

    Attributes:
        forgotten: The call hashes of the calls that were forgotten.
        kept: Why a call was kept, by its call hash.
    """

    forgotten: Sequence[str]
    kept: Mapping[str, str]


class _Found(NamedTuple):
    """A call with records: its value, and why it is still needed, if it is."""

    value: bytes | None
    needed: str | None


class Forgetter:
    """Forgets calls through one connection."""

    def __init__(self, operations: Operations, control: Control) -> None:
        self._operations = operations
        self._control = control

    async def forget(self, calls: Sequence[ToForget], *, force: bool = False) -> Forgotten:
        """Delete the records of calls, in the order that is given. Repeating it is safe, and completes it.

        A worker that is running one of the calls may write its outcome once more.

        Args:
            calls: The calls. Each comes before its parents, so after an interrupted request, all remaining calls except
                for at most `BATCH` can still be found from the top of the graph.
            force: Forget calls that are still needed, too.

        Raises:
            StillNeededError: The last of the calls is still needed.
            MalformedRecordError: A record is not valid.
            BackendError: A backend failed. Repeating it is safe.
        """
        there = await self._look(calls)
        kept = {} if force else {name: why for name, (_, why) in there.items() if why is not None}
        top = calls[-1].call_hash
        if top in kept:
            raise StillNeededError(
                f"the call {top} is still needed: {kept[top]}",
                remedy="Wait for it, or cancel it. With `force` it is forgotten with its outcome and its message.",
            )
        rest = [call for call in calls if call.call_hash in there.keys() - kept.keys()]
        for start in range(0, len(rest) - 1, BATCH):
            kept |= await self._forget(rest[start : min(start + BATCH, len(rest) - 1)], there, force=force)
        kept |= await self._forget(rest[-1:], there, force=force)  # alone, because all others are found from it
        await self._clear_worker_caches()  # even if nothing is left: an earlier request may have ended before this
        return Forgotten([call.call_hash for call in rest if call.call_hash not in kept], kept)

    async def _look(self, calls: Sequence[ToForget]) -> dict[str, _Found]:
        """Return calls by their call hashes. Calls without records are left out."""
        found: dict[str, _Found] = {}
        for start in range(0, len(calls), BATCH):
            hashes = [call.call_hash for call in calls[start : start + BATCH]]
            keys = [[Key(kind, name) for name in hashes] for kind in _KINDS]
            records = [await self._operations.read(each) for each in keys]
            for name, pending, call, value in zip(hashes, *records, strict=True):
                if (pending, call, value) != (None, None, None):
                    known = PendingReturns() if pending is None else decode_pending(pending)
                    found[name] = _Found(value, _why_needed(name, known, ended=value is not None))
        return found

    async def _forget(
        self, calls: Sequence[ToForget], there: Mapping[str, _Found], *, force: bool
    ) -> Mapping[str, str]:
        """Delete the records of calls, their values last. Return why some are kept after all.

        Another request may have forgotten some since this one looked, and then they may run again.
        """
        kept: dict[str, str] = {}
        if not force:
            now = await self._look(calls)
            kept = {name: "it runs again" for name, found in now.items() if found.value != there[name].value}
            calls = [call for call in calls if call.call_hash not in kept]
        states = await self._operations.read([state_key(call.call_hash) for call in calls])
        first: list[Key] = []
        for call, record in zip(calls, states, strict=True):
            name, state = call.call_hash, decode_state(record)
            first += [note_key(name), attempt_key(name), *(Key("value", wait) for wait in call.waits or ())]
            if call.waits is None or state.retries:  # its waits have names that are not known
                await self._control.mark()
                await self._control.update(name, lambda old: CallState(retries=old.retries + 1))
            else:
                first += [state_key(name), Key("value", f"brrr.version/{name}")]
        await self._operations.delete(first)
        # A worker looks for a value first, and misses the call record only after that. So the value goes last.
        for kind in _KINDS:
            await self._operations.delete([Key(kind, call.call_hash) for call in calls])
        return kept

    async def _clear_worker_caches(self) -> None:
        """Let all workers drop the values in their memory. Return when they have."""
        await self._operations.write([(FORGOTTEN, b"%d" % (self._operations.clock() * 1000))])
        await asyncio.sleep(MARKER_DELAY)


def _why_needed(call_hash: str, pending: PendingReturns, *, ended: bool) -> str | None:
    waiting = sum(entry.call_hash != call_hash for entry in pending.returns)
    if not ended:
        return "it has no outcome"
    return f"{waiting:,} calls wait for it" if waiting else None
