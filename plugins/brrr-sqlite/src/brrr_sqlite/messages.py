"""The SQL of the queue. All functions run on the connection's thread; those that write run inside a transaction."""

import secrets
import sqlite3
from collections.abc import Iterable
from typing import Final, NamedTuple

from brrr_core.backend import DeadLetter, Delivery, Peeked, QueueStats, StoredLetter
from brrr_sqlite.clock import Microseconds

__all__ = ["Receipt", "ack", "bury", "claim", "count", "dead", "drop", "due", "extend", "put", "redrive", "release"]
__all__ += [
    "drop_by_id",
    "find_dead",
    "page_dead",
    "peek",
    "purge",
    "put_leased",
    "redrive_by_id",
    "topics",
    "unclaim",
]

READY: Final = "SELECT id, attempt + 1, body FROM message WHERE topic = ? AND due <= ? ORDER BY due, id LIMIT ?"
LEASE: Final = "UPDATE message SET lease = ?, due = ?, attempt = attempt + 1 WHERE id = ?"
DUE: Final = "SELECT due FROM message WHERE topic = ? ORDER BY due LIMIT 1"
PUT: Final = "INSERT INTO message (topic, due, body) VALUES (?, ?, ?)"
PUT_LEASED: Final = "INSERT INTO message (topic, due, lease, attempt, body) VALUES (?, ?, ?, 1, ?)"
ACK: Final = "DELETE FROM message WHERE id = ? AND lease = ? AND due > ?"
RELEASE: Final = "UPDATE message SET lease = 0, due = ? WHERE id = ? AND lease = ? AND due > ?"
EXTEND: Final = "UPDATE message SET due = ? WHERE id = ? AND lease = ? AND due > ?"
UNCLAIM: Final = "UPDATE message SET lease = 0, due = 0, attempt = attempt - 1 WHERE id = ? AND lease = ?"
BURY: Final = """
INSERT INTO dead (topic, body, reason, attempt, buried_at)
SELECT topic, body, ?, attempt, ? FROM message WHERE id = ? AND lease = ? AND due > ?
"""
COUNT: Final = """
SELECT (SELECT count(*) FROM message WHERE topic = :topic AND due <= :now),
    (SELECT count(*) FROM message WHERE topic = :topic AND due > :now AND lease <> 0),
    (SELECT count(*) FROM message WHERE topic = :topic AND due > :now AND lease = 0),
    (SELECT count(*) FROM dead WHERE topic = :topic)
"""
DEAD: Final = "SELECT topic, body, reason, attempt, buried_at FROM dead WHERE topic = ? ORDER BY id LIMIT ?"
REDRIVE: Final = """
INSERT INTO message (topic, due, body) SELECT topic, ?, body FROM dead WHERE topic = ? ORDER BY id LIMIT ?
"""
DROP: Final = "DELETE FROM dead WHERE id IN (SELECT id FROM dead WHERE topic = ? ORDER BY id LIMIT ?)"
PAGE_DEAD: Final = """
SELECT id, topic, body, reason, attempt, buried_at FROM dead WHERE topic = ? AND id > ? ORDER BY id LIMIT ?
"""
FIND_DEAD: Final = "SELECT id, topic, body, reason, attempt, buried_at FROM dead WHERE id = ? AND topic = ?"
DROP_BY_ID: Final = "DELETE FROM dead WHERE id = ?"
TOPICS: Final = """
WITH RECURSIVE message_topic(topic) AS (
    SELECT min(topic) FROM message
    UNION ALL SELECT (SELECT min(topic) FROM message WHERE topic > message_topic.topic) FROM message_topic
    WHERE topic IS NOT NULL
), dead_topic(topic) AS (
    SELECT min(topic) FROM dead
    UNION ALL SELECT (SELECT min(topic) FROM dead WHERE topic > dead_topic.topic) FROM dead_topic
    WHERE topic IS NOT NULL
)
SELECT topic FROM message_topic WHERE topic IS NOT NULL UNION SELECT topic FROM dead_topic WHERE topic IS NOT NULL
"""
"""Takes one step in an index for each topic. DISTINCT would read every message."""
PEEK: Final = "SELECT body, due, lease FROM message WHERE topic = ? ORDER BY due, id LIMIT ?"
PURGE: Final = "DELETE FROM message WHERE topic = ? AND (due <= ? OR lease = 0)"
MAX_LIMIT: Final = 2**62
"""The largest limit that is passed to SQLite, whose integers have 64 bits."""


class Receipt(NamedTuple):
    """The receipt of a delivery: the row id of the message, and the random token of the lease."""

    message: int
    lease: int


def put(connection: sqlite3.Connection, rows: Iterable[tuple[str, Microseconds, bytes]]) -> None:
    """Add messages. Each row has a topic, the time from which the message is ready, and its body."""
    connection.executemany(PUT, rows)


def put_leased(connection: sqlite3.Connection, topic: str, body: bytes, *, until: Microseconds) -> Delivery:
    """Add a message that is leased until `until`. Return its first delivery."""
    lease = _new_lease()
    message = connection.execute(PUT_LEASED, (topic, until, lease, body)).lastrowid
    assert message is not None  # noqa: S101 - the statement has inserted a row
    return Delivery(topic, body, Receipt(message, lease), 1)


def claim(
    connection: sqlite3.Connection, topic: str, limit: int, *, now: Microseconds, until: Microseconds
) -> list[Delivery]:
    """Lease the oldest ready messages until `until`."""
    # A single UPDATE with a subquery and RETURNING is slower for a few messages: it fills two temporary tables.
    rows = connection.execute(READY, (topic, now, min(limit, MAX_LIMIT))).fetchall()
    lease = _new_lease()
    connection.executemany(LEASE, [(lease, until, message) for message, _, _ in rows])
    return [Delivery(topic, body, Receipt(message, lease), attempt) for message, attempt, body in rows]


def due(connection: sqlite3.Connection, topic: str) -> Microseconds | None:
    """Return when the first message of the topic becomes or became ready. None if the topic has no messages."""
    row = connection.execute(DUE, (topic,)).fetchone()
    return None if row is None else row[0]


def ack(connection: sqlite3.Connection, receipts: Iterable[Receipt], *, now: Microseconds) -> None:
    """Delete the messages of valid receipts. Like all functions here, ignore stale receipts."""
    connection.executemany(ACK, ((*receipt, now) for receipt in receipts))


def release(
    connection: sqlite3.Connection, receipts: Iterable[Receipt], *, now: Microseconds, due: Microseconds
) -> None:
    """Make messages ready at `due`."""
    connection.executemany(RELEASE, ((due, *receipt, now) for receipt in receipts))


def extend(
    connection: sqlite3.Connection, receipts: Iterable[Receipt], *, now: Microseconds, until: Microseconds
) -> None:
    """Extend leases until `until`."""
    connection.executemany(EXTEND, ((until, *receipt, now) for receipt in receipts))


def unclaim(connection: sqlite3.Connection, receipts: Iterable[Receipt]) -> None:
    """Undo a claim that did not reach its receiver: the messages are first again, and the attempt does not count."""
    connection.executemany(UNCLAIM, receipts)


def bury(connection: sqlite3.Connection, receipt: Receipt, reason: str, *, now: Microseconds, wall: float) -> None:
    """Move a message to the dead letters. `wall` is the wall clock, in seconds since the unix epoch."""
    if connection.execute(BURY, (reason, wall, *receipt, now)).rowcount:
        connection.execute(ACK, (*receipt, now))


def count(connection: sqlite3.Connection, topic: str, *, now: Microseconds) -> QueueStats:
    """Count the messages of the topic in each state, all at one moment."""
    return QueueStats(*connection.execute(COUNT, {"topic": topic, "now": now}).fetchone())


def dead(connection: sqlite3.Connection, topic: str, limit: int) -> list[DeadLetter]:
    """Return the oldest dead letters."""
    return [DeadLetter(*row) for row in connection.execute(DEAD, (topic, min(limit, MAX_LIMIT)))]


def redrive(connection: sqlite3.Connection, topic: str, limit: int, *, now: Microseconds) -> int:
    """Replace the oldest dead letters with new messages. Return their number."""
    connection.execute(REDRIVE, (now, topic, min(limit, MAX_LIMIT)))
    return drop(connection, topic, limit)


def drop(connection: sqlite3.Connection, topic: str, limit: int) -> int:
    """Delete the oldest dead letters. Return their number."""
    return connection.execute(DROP, (topic, min(limit, MAX_LIMIT))).rowcount


def page_dead(connection: sqlite3.Connection, topic: str, limit: int, after: str | None) -> list[StoredLetter]:
    """Return the dead letters that follow the one with the id `after`."""
    begin = 0 if after is None else _row_of(after)
    return [_stored(row) for row in connection.execute(PAGE_DEAD, (topic, begin, min(limit, MAX_LIMIT)))]


def find_dead(connection: sqlite3.Connection, topic: str, ids: Iterable[str]) -> list[StoredLetter]:
    """Return the dead letters with these ids, in the order of the ids."""
    found: list[StoredLetter] = []
    for identity in dict.fromkeys(ids):
        row = connection.execute(FIND_DEAD, (_row_of(identity), topic)).fetchone()
        if row is not None and (stored := _stored(row)).id == identity:
            found.append(stored)
    return found


def redrive_by_id(connection: sqlite3.Connection, topic: str, ids: Iterable[str], *, now: Microseconds) -> int:
    """Replace dead letters with new messages. Return their number."""
    letters = find_dead(connection, topic, ids)
    put(connection, [(topic, now, stored.letter.body) for stored in letters])
    return drop_by_id(connection, topic, [stored.id for stored in letters])


def drop_by_id(connection: sqlite3.Connection, topic: str, ids: Iterable[str]) -> int:
    """Delete dead letters. Return their number."""
    letters = find_dead(connection, topic, ids)
    connection.executemany(DROP_BY_ID, [(_row_of(stored.id),) for stored in letters])
    return len(letters)


def topics(connection: sqlite3.Connection) -> list[str]:
    """Return the topics that have a message or a dead letter, sorted."""
    return sorted(topic for (topic,) in connection.execute(TOPICS))


def peek(connection: sqlite3.Connection, topic: str, limit: int, *, now: Microseconds) -> list[Peeked]:
    """Return messages in the order in which they were or will be ready."""
    return [
        Peeked(body, "ready" if due <= now else "leased" if lease else "delayed")
        for body, due, lease in connection.execute(PEEK, (topic, min(limit, MAX_LIMIT)))
    ]


def purge(connection: sqlite3.Connection, topic: str, *, now: Microseconds) -> int:
    """Delete the ready and the delayed messages. Return their number."""
    return connection.execute(PURGE, (topic, now)).rowcount


def _stored(row: tuple[int, str, bytes, str, int, float]) -> StoredLetter:
    """Return a dead letter with its id: its row id and its time, because SQLite can use a row id again."""
    letter = DeadLetter(*row[1:])
    return StoredLetter(f"{row[0]}-{letter.buried_at!r}", letter)


def _row_of(identity: str) -> int:
    """Return the row id in the id of a dead letter; -1 if it is not such an id."""
    number = identity.partition("-")[0]
    return int(number) if number.isdecimal() and len(number) < 19 else -1


def _new_lease() -> int:
    return secrets.randbits(62) + 1
