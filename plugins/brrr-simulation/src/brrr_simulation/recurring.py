"""Recurring schedules of the workers of a history: each tick is exactly one call under any faults."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any, Final

import brrr_core as brrr
import brrr_cron
from brrr_core.backend import Key
from brrr_core.wire import decode_call
from brrr_simulation.fleet import EPOCH
from brrr_simulation.graphs import Graph, current_graph

__all__ = ["TICK_HANDLERS", "Recurring", "called_ticks"]

TICKS: Final = 11
"""The number of ticks after the start of a history."""

PERIOD: Final = 10
"""Seconds between two ticks."""

AWAKE: Final = 25.0
"""Virtual seconds after the end of all faults in which each worker has looked at its schedules once more."""

CURSOR: Final = "brrr.cron/ticks"
"""The key of the cursor."""


@brrr.handler_no_arg
async def tick(at: str) -> str:
    current_graph().effects.counts[f"tick {at}"] += 1
    return at


TICK_HANDLERS: Final[Mapping[str, Any]] = {"tick": tick}
"""The handler of a tick."""

# Every ten seconds of the first two minutes, and then again after a year.
SCHEDULES: Final[Mapping[brrr_cron.Missed, brrr_cron.CronSchedule]] = {
    missed: brrr_cron.every(f"*/{PERIOD} 0-1 8 15 1 *", tick, name="ticks", missed=missed)
    for missed in ("all", "last", "none")
}


class Recurring:
    """The schedule of one history. All its workers have it.

    With `missed="all"`, each tick after the first look of a worker runs. Otherwise, ticks that no worker handles within
    a minute are missed, except for the last one with `missed="last"`.

    Args:
        seed: The seed of the history. These choices change no others.
        graph: The call graph, for its effects.
        active: Whether the history has a schedule.
    """

    def __init__(self, seed: int, graph: Graph, *, active: bool) -> None:
        draw = Random(seed + 4)  # noqa: S311 - a simulation
        self._missed: brrr_cron.Missed = draw.choice(("all", "all", "last", "none"))
        self._counts: Counter[str] = graph.effects.counts
        self.schedules = [SCHEDULES[self._missed]] if active else []

    @property
    def until(self) -> float:
        """Virtual seconds at which all ticks have passed on every clock."""
        return PERIOD * (TICKS + 2) if self.schedules else 0.0

    def check(self, records: Mapping[Key, bytes], cursors: Sequence[bytes], *, calm: bool) -> list[str]:
        """Return the ticks without exactly one call, and each cursor that moved back.

        Args:
            records: The records at the end.
            cursors: All records of the cursor, in order.
            calm: Whether no fault struck, so that no call may run twice.
        """
        if not self.schedules:
            return []
        if not cursors:
            return ["no worker ran the schedule"]
        handled = [cursor.decode().split(" ")[0] for cursor in cursors]
        wrong = [f"the cursor moved back from {one} to {two}" for one, two in pairwise(handled) if two < one]
        due = [text for text in _ticks() if text > handled[0]]
        called = called_ticks(records)
        wrong += _wrong_ticks(due, called, strict=self._missed == "all")
        if self._missed == "last" and f"tick {due[-1]}" not in self._counts:
            wrong.append(f"the last tick {due[-1]} did not run")
        runs = {text: self._counts[f"tick {text}"] for text in called}
        # A worker may crash after it stores a call, before it puts it. The next one then puts it, or misses the tick.
        return wrong + [
            f"{text} ran {count} times"
            for text, count in runs.items()
            if (not count and self._missed == "all") or (calm and count != 1)
        ]


def _wrong_ticks(due: Sequence[str], called: Sequence[str], *, strict: bool) -> list[str]:
    missing = [text for text in due if text not in called] if strict else []
    return [f"no call ran for the tick {text}" for text in missing] + [
        f"a call ran for {text}, which is not a tick" for text in called if text not in due
    ]


def _ticks() -> Iterable[str]:
    start = datetime.fromtimestamp(EPOCH, UTC)
    return [f"{start + timedelta(seconds=PERIOD * number):%Y-%m-%dT%H:%M:%SZ}" for number in range(TICKS + 1)]


def called_ticks(records: Mapping[Key, bytes]) -> list[str]:
    """Return the ticks that have a call, as texts.

    Args:
        records: The records of a history.
    """
    calls = [decode_call(key.call_hash, record) for key, record in records.items() if key.kind == "call"]
    return [call.payload.decode()[2:-2] for call in calls if call.task_name == "tick"]
