"""The cursor of a schedule: the record of its last tick whose call was put. All workers share it.

A worker claims the due ticks, puts their calls, and moves the cursor. If it dies in between, another worker puts the
calls again when the claim expires. They have the same identity, so each runs once. The cursor only moves forward.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from random import uniform
from secrets import token_hex
from typing import Final, NamedTuple, TypeAlias

from brrr_core.backend import Key, Store, Swap
from brrr_core.errors import MalformedRecordError
from brrr_cron.times import Times, read_text, text_of

__all__ = ["Choose", "Cursor"]

JITTER_SECONDS: Final = 0.5
"""The most seconds by which a worker delays a tick. So usually one worker claims it, and the others find it done."""

CLAIM_SECONDS: Final = 10
"""Seconds for which a claim lasts. Claims only save messages: a tick that is put twice is still one call."""

MAX_CLAIM_SECONDS: Final = 60
"""Seconds in the future. A claim that ends later than this is ignored: it comes from a wrong clock."""

Choose: TypeAlias = Callable[[Sequence[datetime], datetime], Sequence[datetime]]
"""Selects the ticks to run from the due ones, at the present time."""


class _Record(NamedTuple):
    """The record: the last tick whose call was put, and the end of the claim for the next ones (unix seconds)."""

    handled: datetime
    claimed_until: int = 0

    def is_claimed(self, now: float) -> bool:
        return now < self.claimed_until < now + MAX_CLAIM_SECONDS


class Cursor:
    """The cursor of a schedule, as one worker sees it.

    Args:
        name: The name of the schedule.
        times: Its times.
        choose: Chooses the ticks to run.
        store: The store of the record.
        put: Puts the call of a tick.
    """

    def __init__(
        self, name: str, times: Times, choose: Choose, store: Store, put: Callable[[str], Awaitable[object]]
    ) -> None:
        self._name = name
        self._times = times
        self._choose = choose
        self._store = store
        self._put = put
        self._key = Key("value", f"brrr.cron/{name}")
        self._claim: bytes | None = None
        """The last claim that this worker tried to make."""
        self._handled: datetime | None = None
        """The last tick that this worker has handled. The record may be older, or may have been deleted."""

    async def tick(self, now: float) -> float:
        """Put the calls of all ticks since the cursor, and move it. Return the unix time of the next call of `tick`."""
        present = datetime.fromtimestamp(int(now), UTC)
        while True:
            (found,) = await self._store.read([self._key])
            record = None if found is None else self._decode(found)
            if record is not None and record.is_claimed(now) and found != self._claim:
                return record.claimed_until + uniform(0, JITTER_SECONDS)  # noqa: S311 - spreads load, keeps no secret
            known = [each for each in (record and record.handled, self._handled) if each is not None]
            handled = max(known, default=present)
            due = self._times.latest(handled, present)
            chosen = self._choose(due, present)
            if chosen and found != self._claim:
                self._claim = f"{text_of(handled)} {int(now) + CLAIM_SECONDS} {token_hex(8)}".encode()
                if not await self._swap(found, self._claim):
                    continue
                found = self._claim
            await asyncio.gather(*(self._put(text_of(tick)) for tick in chosen))
            if due:
                handled = self._handled = due[-1]
            if (not due and record is not None and record.handled >= handled) or await self._swap(
                found, text_of(handled).encode()
            ):
                break
        self._handled = handled
        following = next(self._times.after(max(handled, present)))
        return following.timestamp() + uniform(0, JITTER_SECONDS)  # noqa: S311 - spreads load, keeps no secret

    async def _swap(self, found: bytes | None, new: bytes) -> bool:
        (swapped,) = await self._store.swap([Swap(self._key, found, new)])
        return swapped

    def _decode(self, found: bytes) -> _Record:
        try:
            text, *claim = found.decode().split(" ")
            return _Record(read_text(text), int(claim[0]) if claim else 0)
        except ValueError as error:
            raise MalformedRecordError(
                f"the cursor of the schedule {self._name!r} is not valid: {found[:40]!r}",
                remedy=f"Delete the record {self._key.call_hash!r} of kind value. The schedule then starts again.",
            ) from error
