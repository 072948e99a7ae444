"""Expiry of records, by the rules of `brrr_core/backend/expiry.py`, and the removal of records that nothing needs.

A value and its call record get the same time, in one transaction. Backends with a `ttl` delete expired records in their
write transactions, once a second at most. Until then, an expired record can be read, and a read refreshes it.
"""

import sqlite3
from collections.abc import Iterable
from typing import Final

from brrr_core.backend import REFRESH_SHARE, Key, may_expire
from brrr_sqlite.clock import Clock, Microseconds, to_microseconds

__all__ = ["Expiry", "collect", "set_call"]

FAILURE_PREFIX: Final = b"\xc1brrr-failure:"
"""The first bytes of a value record that is a failure (docs/reference/protocol.md, Failures)."""

SWEEP_EVERY_US: Final = 1_000_000
"""Microseconds between two sweeps of one backend."""

SWEEP_LIMIT: Final = 1_000
"""The most records that one transaction deletes. It bounds how long other transactions wait for the lock."""

UNTIL: Final = "SELECT until FROM record WHERE hash = ? AND kind = 2 AND until < ?"
RESTART: Final = "UPDATE record SET until = ? WHERE hash = ? AND kind IN (0, 2)"
SET_CALL: Final = "UPDATE record SET until = ? WHERE hash = ? AND kind = 0"
EXPIRED: Final = "SELECT hash, kind FROM record WHERE until <= ? ORDER BY until LIMIT ?"
# Records with these prefixes belong to the call whose hash follows the prefix. Only runs of its handler need them.
# A call with a value has no more runs; a failed call can be retried.
LEFT_OVER: Final = """
SELECT hash, kind FROM (
    SELECT hash, kind, substr(hash, length(prefix) + 1) AS rest FROM record
    JOIN (SELECT 'brrr.due/' AS prefix UNION ALL SELECT 'brrr.wait/' UNION ALL SELECT 'brrr.state/'
          UNION ALL SELECT 'brrr.version/' UNION ALL SELECT 'brrr.buried/' UNION ALL SELECT 'brrr.attempt/')
    ON hash >= prefix AND hash < substr(prefix, 1, length(prefix) - 1) || '0'
) WHERE EXISTS (
    SELECT 1 FROM record AS ended WHERE ended.hash = substr(rest, 1, instr(rest || '/', '/') - 1)
    AND ended.kind = 2 AND substr(ended.value, 1, ?) <> ?
) LIMIT ?
"""


class Expiry:
    """The times at which records of one backend expire.

    Args:
        ttl: Seconds that a value is kept after its last write or read; None for no limit.
        clock: The clock of the file.
    """

    def __init__(self, ttl: float | None, clock: Clock) -> None:
        self.ttl = ttl
        self._ttl: Microseconds = to_microseconds(ttl or 0)
        self._clock = clock
        self._swept_at: Microseconds = 0

    def until(self, key: Key) -> Microseconds | None:
        """Return the time at which a new record expires; None for never."""
        return self._clock() + self._ttl if self._ttl and may_expire(key) else None

    def old(self, connection: sqlite3.Connection, keys: Iterable[Key]) -> list[str]:
        """Return the call hashes of the values that a read must refresh."""
        if not self._ttl:
            return []
        latest = self._clock() + int(self._ttl * (1 - REFRESH_SHARE))
        hashes = [key.call_hash for key in keys if may_expire(key)]
        return [name for name in hashes if connection.execute(UNTIL, (name, latest)).fetchone() is not None]

    def refresh(self, connection: sqlite3.Connection, keys: Iterable[Key]) -> None:
        """Restart the `ttl` of the old values among the keys, and of their calls. Call it in a write transaction."""
        until = self._clock() + self._ttl
        for call_hash in self.old(connection, keys):
            connection.execute(RESTART, (until, call_hash))

    def sweep(self, connection: sqlite3.Connection) -> None:
        """Delete expired records, at most once in `SWEEP_EVERY_US`. Call it in a write transaction."""
        now = self._clock()
        if self._ttl and now - self._swept_at >= SWEEP_EVERY_US:
            self._swept_at = now
            connection.execute(_deleting(EXPIRED), (now, SWEEP_LIMIT))


def set_call(connection: sqlite3.Connection, call_hash: str, until: Microseconds | None) -> None:
    """Let the record of a call expire with its value. None means never, because the call has no value now."""
    connection.execute(SET_CALL, (until, call_hash))


def collect(connection: sqlite3.Connection, now: Microseconds, *, dry_run: bool) -> tuple[int, int]:
    """Delete a batch of expired records and a batch of records that finished calls left over. Return both numbers.

    A dry run counts all of them.
    """
    limit = -1 if dry_run else SWEEP_LIMIT
    left_over = (len(FAILURE_PREFIX), FAILURE_PREFIX, limit)
    if dry_run:
        return _count(connection, EXPIRED, (now, limit)), _count(connection, LEFT_OVER, left_over)
    return (
        connection.execute(_deleting(EXPIRED), (now, limit)).rowcount,
        connection.execute(_deleting(LEFT_OVER), left_over).rowcount,
    )


def _deleting(query: str) -> str:
    return f"DELETE FROM record WHERE (hash, kind) IN ({query})"  # noqa: S608 - constants of this module


def _count(connection: sqlite3.Connection, query: str, values: tuple[object, ...]) -> int:
    (number,) = connection.execute(f"SELECT count(*) FROM ({query})", values).fetchone()  # noqa: S608 - as above
    return int(number)
