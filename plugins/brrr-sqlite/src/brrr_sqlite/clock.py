"""The clock that decides when messages are ready. All processes of a file share its time, which never goes back.

It is the machine's steady clock plus an offset that the file stores. Setting the wall clock changes neither. The steady
clock restarts with the machine, so the first process that opens the file afterwards stores a new offset. The time then
continues from the last recorded time, plus the time that has passed on the wall clock.
"""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["Clock", "Microseconds", "boot_id", "steady_ns", "to_microseconds"]

Microseconds = int
"""A time in microseconds since the unix epoch, as the first process of the file saw it, or a duration."""

MAX_DURATION_US: Final = 2**61
"""About 73,000 years. SQLite's integers have 64 bits, so a time plus this duration still fits."""

RECORD_INTERVAL_US: Final = 1_000_000
"""A process that writes records the time in the file at this interval. If the machine restarts with its wall clock set
back, messages written after the last record stay hidden for at most this long."""

# offset: the difference between the file's time and the steady clock, valid for this boot.
# seen, wall: the file's time and the wall clock, as last recorded.
TABLE: Final = """
CREATE TABLE IF NOT EXISTS clock (
    id INTEGER PRIMARY KEY CHECK (id = 0),
    boot TEXT NOT NULL,
    offset INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    wall INTEGER NOT NULL
)
"""
SET: Final = "REPLACE INTO clock (id, boot, offset, seen, wall) VALUES (0, ?, ?, ?, ?)"
RECORD: Final = "UPDATE clock SET seen = ?, wall = ? WHERE seen < ?"

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
STEADY: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC_RAW", None))
"""The steady clock of Linux or macOS. `time.monotonic` stops there while the machine sleeps."""


def steady_ns() -> int:
    """Return the nanoseconds since the machine started: the same for all processes of the machine."""
    return time.monotonic_ns() if STEADY is None else time.clock_gettime_ns(STEADY)


def boot_id() -> str:
    """Return an id of the current boot of the machine, or an empty string on systems other than Linux."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


class Clock:
    """The time of one file.

    Args:
        steady: Returns nanoseconds since the machine started.
        wall: Returns nanoseconds since the unix epoch.
        boot: Returns an id of the current boot of the machine, or an empty string.
    """

    def __init__(
        self,
        steady: Callable[[], int] = steady_ns,
        wall: Callable[[], int] = time.time_ns,
        boot: Callable[[], str] = boot_id,
    ) -> None:
        self._steady = steady
        self._wall = wall
        self._boot = boot
        self._offset: Microseconds = 0
        self._recorded: Microseconds = 0

    def __call__(self) -> Microseconds:
        """Return the current time."""
        return self._steady() // 1000 + self._offset

    def wall(self) -> float:
        """Return the wall clock in seconds since the unix epoch, for people to read."""
        return self._wall() / 1e9

    def synchronize(self, connection: sqlite3.Connection) -> None:
        """Take the offset from the file, or store a new one. Call it first, inside a write transaction."""
        connection.execute(TABLE)
        boot, now, wall = self._boot(), self._steady() // 1000, self._wall() // 1000
        row = connection.execute("SELECT boot, offset, seen, wall FROM clock").fetchone()
        if row is None:
            self._offset = wall - now
        else:
            recorded_boot, offset, seen, recorded_wall = row
            # Without a boot id, only a steady clock that went back shows that the machine has restarted.
            if recorded_boot == boot and now + offset >= seen:
                self._offset = offset
                return
            self._offset = seen + max(0, wall - recorded_wall) - now
        connection.execute(SET, (boot, self._offset, now + self._offset, wall))

    def record(self, connection: sqlite3.Connection) -> None:
        """Record the time in the file if `RECORD_INTERVAL_US` has passed. Call it inside a write transaction."""
        now = self()
        if now - self._recorded >= RECORD_INTERVAL_US:
            self._recorded = now
            connection.execute(RECORD, (now, self._wall() // 1000, now))


def to_microseconds(seconds: float) -> Microseconds:
    """Convert a duration, and limit it to `MAX_DURATION_US`."""
    return int(min(seconds * 1e6, MAX_DURATION_US))
