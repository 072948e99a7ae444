"""The time by which messages fall due: one for all processes of a file, which never goes back.

It is the machine's steady clock plus an offset that is kept in the file. Setting the wall clock changes neither. The
steady clock starts anew with the machine, so the first process that opens the file after that finds a new offset: time
goes on where it was last seen, later by as much as the wall clock says has passed.
"""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["Clock", "Microseconds", "boot_of_machine", "microseconds", "steady_ns"]

Microseconds = int
"""Microseconds since the unix epoch, as the first process of the file saw it, or a span of them."""

FOREVER: Final = 2**62
"""About 146,000 years: SQLite's integers have 64 bits, and a sum of two of these still fits."""

STAMP: Final = 1_000_000
"""How often a process that writes notes the time. If the machine starts with its wall clock set back, the messages that
were written since are hidden for that long at most."""

# offset: what is added to the steady clock of the boot. seen, wall: the file's time and the wall clock when noted last.
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
NOTE: Final = "UPDATE clock SET seen = ?, wall = ? WHERE seen < ?"

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
STEADY: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC_RAW", None))
"""Linux's, or macOS's: `time.monotonic` stands still there while the machine sleeps."""


def steady_ns() -> int:
    """Nanoseconds since the machine started, the same in all its processes."""
    return time.monotonic_ns() if STEADY is None else time.clock_gettime_ns(STEADY)


def boot_of_machine() -> str:
    """The name of this start of the machine; empty where the system does not tell (other systems than Linux)."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


class Clock:
    """The time of one file.

    Args:
        steady: Nanoseconds since the machine started.
        wall: Nanoseconds since the unix epoch.
        boot: The name of this start of the machine.
    """

    def __init__(
        self,
        steady: Callable[[], int] = steady_ns,
        wall: Callable[[], int] = time.time_ns,
        boot: Callable[[], str] = boot_of_machine,
    ) -> None:
        self._steady = steady
        self._wall = wall
        self._boot = boot
        self._offset: Microseconds = 0
        self._noted: Microseconds = 0

    def __call__(self) -> Microseconds:
        """The time now."""
        return self._steady() // 1000 + self._offset

    def wall(self) -> float:
        """Seconds since the unix epoch, by the wall clock: for people to read."""
        return self._wall() / 1e9

    def join(self, connection: sqlite3.Connection) -> None:
        """Take the file's offset, or find a new one. Runs inside a write transaction, before any other use."""
        connection.execute(TABLE)
        boot, now, wall = self._boot(), self._steady() // 1000, self._wall() // 1000
        row = connection.execute("SELECT boot, offset, seen, wall FROM clock").fetchone()
        if row is None:
            self._offset = wall - now
        else:
            of_boot, offset, seen, then = row
            # Without a name of the boot, a steady clock that went back tells that the machine has started anew.
            if of_boot == boot and now + offset >= seen:
                self._offset = offset
                return
            self._offset = seen + max(0, wall - then) - now
        connection.execute(SET, (boot, self._offset, now + self._offset, wall))

    def note(self, connection: sqlite3.Connection) -> None:
        """Note the time in the file now and then. Runs inside a write transaction."""
        now = self()
        if now - self._noted >= STAMP:
            self._noted = now
            connection.execute(NOTE, (now, self._wall() // 1000, now))


def microseconds(seconds: float) -> Microseconds:
    """A span of seconds, cut to what SQLite can count with."""
    return int(min(seconds * 1e6, FOREVER // 2))
