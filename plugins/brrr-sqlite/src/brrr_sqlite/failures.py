"""What SQLite's errors mean to a user."""

import sqlite3
from pathlib import Path
from typing import Final

from brrr_core.errors import BackendError, BackendUnavailableError, BrrrError, CorruptBackendError

__all__ = ["busy", "translated"]

UNAVAILABLE: Final = {
    sqlite3.SQLITE_BUSY: (
        "is locked by another process for longer than busy_timeout",
        "Find who holds it (a backup, a shell in a transaction, a stopped process), or raise busy_timeout",
    ),
    sqlite3.SQLITE_FULL: ("cannot grow: the disk is full", "Free some space; what was asked for was not stored"),
    sqlite3.SQLITE_READONLY: (
        "cannot be written",
        "Give this user write permission on the file, its -wal and -shm, and its folder",
    ),
    sqlite3.SQLITE_PERM: ("cannot be opened", "Give this user permission on the file and its folder"),
    sqlite3.SQLITE_CANTOPEN: (
        "cannot be opened",
        "See that it is a file, and that this user may write to it and to its folder",
    ),
    sqlite3.SQLITE_IOERR: ("cannot be read or written", "See the disk's health and the system's log"),
    sqlite3.SQLITE_PROTOCOL: ("is on a file system whose locks do not work", "Keep it on a local disk"),
    sqlite3.SQLITE_NOLFS: ("is too large for this file system", "Move it to another one"),
}
UNAVAILABLE[sqlite3.SQLITE_LOCKED] = UNAVAILABLE[sqlite3.SQLITE_BUSY]

CORRUPT: Final = {
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_NOTADB: "is not a SQLite file",
}


def busy(error: Exception) -> bool:
    """Whether another connection's lock is in the way, so that trying again soon helps."""
    return _primary(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def translated(error: BaseException, path: Path) -> BrrrError:
    """The error for the user, with its cause."""
    if isinstance(error, BrrrError):
        return error
    code = _primary(error)
    said = f" ({error})" if str(error) else ""
    if code in UNAVAILABLE:
        what, remedy = UNAVAILABLE[code]
        ours: BrrrError = BackendUnavailableError(f"{path} {what}{said}", remedy=f"{remedy}.")
    elif code in CORRUPT:
        ours = CorruptBackendError(
            f"{path} {CORRUPT[code]}{said}",
            remedy="Restore it from a backup, or save what can be with `sqlite3 FILE .recover`; or name another file.",
        )
    else:
        ours = BackendError(
            f"{path} did not take the operation: {type(error).__name__}{said}",
            remedy="Look at SQLite's error, which is its cause; if nothing of yours brings it about, report it.",
        )
    ours.__cause__ = error
    return ours


def _primary(error: BaseException) -> int | None:
    # Extended codes carry the primary one in their low byte: https://www.sqlite.org/rescode.html
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None
