"""Translates errors of SQLite into errors of brrr."""

import sqlite3
from pathlib import Path
from typing import Final

from brrr_core.errors import BackendError, BackendUnavailableError, BrrrError, CorruptBackendError

__all__ = ["is_busy", "translate_error"]

UNAVAILABLE: Final = {
    sqlite3.SQLITE_BUSY: (
        "was locked by another process for longer than busy_timeout",
        "End the process that holds the lock (a backup, an open transaction, a stopped process), or raise busy_timeout",
    ),
    sqlite3.SQLITE_FULL: (
        "cannot grow because the disk is full",
        "Free some space and retry; the operation stored nothing",
    ),
    sqlite3.SQLITE_READONLY: (
        "cannot be written",
        "Give this user write permission on the file, its -wal and -shm files, and its folder",
    ),
    sqlite3.SQLITE_PERM: ("cannot be opened", "Give this user permission on the file and its folder"),
    sqlite3.SQLITE_CANTOPEN: (
        "cannot be opened",
        "Check that it is a file, and that this user may write to it and to its folder",
    ),
    sqlite3.SQLITE_IOERR: ("cannot be read or written", "Check the disk and the system log"),
    sqlite3.SQLITE_PROTOCOL: ("is on a file system without working locks", "Move it to a local disk"),
    sqlite3.SQLITE_NOLFS: ("is too large for its file system", "Move it to another file system"),
}
UNAVAILABLE[sqlite3.SQLITE_LOCKED] = UNAVAILABLE[sqlite3.SQLITE_BUSY]

CORRUPT: Final = {
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_NOTADB: "is not a SQLite file",
}


def is_busy(error: Exception) -> bool:
    """Whether a lock of another connection caused the error, so that a retry can succeed."""
    return _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def translate_error(error: BaseException, path: Path) -> BrrrError:
    """Return the error to raise to the user, with `error` as its cause. Errors of brrr are returned unchanged."""
    if isinstance(error, BrrrError):
        return error
    code = _primary_code(error)
    detail = f" ({error})" if str(error) else ""
    if code in UNAVAILABLE:
        what, remedy = UNAVAILABLE[code]
        translated: BrrrError = BackendUnavailableError(f"{path} {what}{detail}", remedy=f"{remedy}.")
    elif code in CORRUPT:
        translated = CorruptBackendError(
            f"{path} {CORRUPT[code]}{detail}",
            remedy="Restore it from a backup, recover its data with `sqlite3 FILE .recover`, or use another file.",
        )
    else:
        translated = BackendError(
            f"an operation on {path} failed: {type(error).__name__}{detail}",
            remedy="Read the chained error. If your program did not cause it, report it as a bug.",
        )
    translated.__cause__ = error
    return translated


def _primary_code(error: BaseException) -> int | None:
    # The low byte of an extended code is the primary code: https://www.sqlite.org/rescode.html
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None
