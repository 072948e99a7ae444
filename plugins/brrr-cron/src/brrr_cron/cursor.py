"""The cursor of a schedule: the record that says up to which tick all workers have put its calls.

A worker claims the due ticks, puts their calls, and moves the cursor. If it dies in between, another worker puts them
again when the claim is over: these are the same calls, by their identity. The cursor only moves forward.
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

JITTER: Final = 0.5
"""The most seconds by which a worker delays a tick. So most often one worker claims it, and the others find it done."""

CLAIM: Final = 10
"""Seconds for which a claim lasts. It only saves messages: the calls are right without it."""

FARTHEST_CLAIM: Final = 60
"""Seconds in the future up to which a claim counts. A later one comes from a clock that is wrong."""

Choose: TypeAlias = Callable[[Sequence[datetime], datetime], Sequence[datetime]]
"""Returns those of some due ticks that run at the present time."""


class _Record(NamedTuple):
    """The record: the last tick that was handled, and when the claim for the next ones ends (unix seconds)."""

    handled: datetime
    claimed_until: int = 0

    def is_claimed(self, now: float) -> bool:
        return now < self.claimed_until < now + FARTHEST_CLAIM


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
        """The last tick that this worker knows to be handled. It may be later than the record, or the record gone."""

    async def tick(self, now: float) -> float:
        """Put the calls of the ticks since the cursor, and move it. Return the unix time at which to come back."""
        present = datetime.fromtimestamp(int(now), UTC)
        while True:
            (found,) = await self._store.read([self._key])
            record = None if found is None else self._decode(found)
            if record is not None and record.is_claimed(now) and found != self._claim:
                return record.claimed_until + uniform(0, JITTER)  # noqa: S311 - spreads load, keeps no secret
            known = [each for each in (record and record.handled, self._handled) if each is not None]
            handled = max(known, default=present)
            due = self._times.latest(handled, present)
            chosen = self._choose(due, present)
            if chosen and found != self._claim:
                self._claim = f"{text_of(handled)} {int(now) + CLAIM} {token_hex(8)}".encode()
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
        return following.timestamp() + uniform(0, JITTER)  # noqa: S311 - spreads load, keeps no secret

    async def _swap(self, found: bytes | None, new: bytes) -> bool:
        (swapped,) = await self._store.swap([Swap(self._key, found, new)])
        return swapped

    def _decode(self, found: bytes) -> _Record:
        try:
            text, *claim = found.decode().split(" ")
            return _Record(read_text(text), int(claim[0]) if claim else 0)
        except ValueError as error:
            raise MalformedRecordError(
                f"the cursor of the schedule {self._name!r} is {found[:40]!r}",
                remedy="Delete the record; then the schedule starts again.",
            ) from error
