"""Hints between processes: which topics may have new messages, and which calls have new values.

After its commits, each process appends hints to a file next to the database. inotify notifies the other processes, and
they read the new part. So a wake-up takes one write and needs no list of processes, and a killed process leaves nothing
to clean up. The file needs no fsync, because hints may get lost.

Only Linux has inotify. On other systems, and if the file cannot be opened, there are no hints, and waiting is polling.
"""

import os
import stat
import sys
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

__all__ = ["HintFile", "hint_of_topic", "hint_of_value"]

HINT_BYTES: Final = 8
MAX_BYTES: Final = 64 * 1024
"""Size in bytes at which the file is truncated. A reader that finds it shorter than before wakes all waits once."""

READ_PAUSE_SECONDS: Final = 0.002
"""Pause after each read, so that busy processes do not wake idle ones too often. The first hint is read immediately."""

IN_MODIFY: Final = 0x2
IN_ATTRIB: Final = 0x4
"""Events of <sys/inotify.h>. The second one reports that the file was removed."""


@lru_cache(maxsize=4096)
def hint_of_topic(topic: str) -> bytes:
    """Return the hint that a topic may have new messages."""
    return blake2b(b"t" + topic.encode(), digest_size=HINT_BYTES).digest()


@lru_cache(maxsize=4096)
def hint_of_value(call_hash: str) -> bytes:
    """Return the hint that a call has a value."""
    return blake2b(b"v" + call_hash.encode(), digest_size=HINT_BYTES).digest()


class HintFile:
    """The hints of one database, for one backend. Its methods raise nothing, because hints may get lost.

    Args:
        database: The database file, without links in its path.
        loop: The event loop of the backend.
        on_hints: Called with the new hints of other backends; with None if some were lost, so that all waits must wake.
    """

    def __init__(
        self, database: Path, *, loop: AbstractEventLoop, on_hints: Callable[[Collection[bytes] | None], None]
    ) -> None:
        self._database = database
        self._path = database.with_name(f"{database.name}-hints")
        self._loop = loop
        self._on_hints = on_hints
        self._file: int | None = None
        self._read_to = 0
        self._inotify: int | None = None
        self._timer: TimerHandle | None = None

    def append(self, hints: Iterable[bytes]) -> None:
        """Append hints."""
        if sys.platform != "linux":
            return
        data = b"".join(hints)
        with suppress(OSError):
            file = self._opened()
            os.write(file, data)
            end = os.lseek(file, 0, os.SEEK_CUR)
            if end - len(data) == self._read_to:
                self._read_to = end  # this backend need not read its own hints
            if end > MAX_BYTES or end % HINT_BYTES:
                os.ftruncate(file, 0)

    def listen(self) -> bool:
        """Start to read hints, if it has not started. Return whether hints can arrive."""
        if sys.platform == "linux" and self._inotify is None:
            with suppress(OSError):
                self._read_to = os.fstat(self._opened()).st_size
                self._inotify = _watch(self._path)
                if self._inotify is not None:
                    self._loop.add_reader(self._inotify, self._on_event)
        return self._inotify is not None

    def close(self) -> None:
        """Stop reading and writing. The next use opens the file again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._inotify is not None:
            self._loop.remove_reader(self._inotify)
            os.close(self._inotify)
            self._inotify = None
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def remove(self) -> None:
        """Remove the file, because the database is closed. A process that opens the database now creates a new one."""
        with suppress(OSError):
            self._path.unlink()

    def _on_event(self) -> None:
        assert self._inotify is not None  # noqa: S101 - only `listen` registers this callback
        with suppress(BlockingIOError):
            os.read(self._inotify, MAX_BYTES)
        hints = self._read_new()
        if hints is None or hints:
            self._loop.remove_reader(self._inotify)
            self._timer = self._loop.call_later(READ_PAUSE_SECONDS, self._resume_reading)
            self._on_hints(hints)

    def _resume_reading(self) -> None:
        self._timer = None
        if self._inotify is not None:
            self._loop.add_reader(self._inotify, self._on_event)

    def _read_new(self) -> Collection[bytes] | None:
        """Return the hints that others have appended; None if some were lost."""
        try:
            state = os.fstat(self._opened())
            size = state.st_size - self._read_to
            data = os.pread(self._opened(), max(size, 0), self._read_to)
        except OSError:
            return None
        self._read_to = state.st_size
        if state.st_nlink == 0:  # the file was removed, and other processes use a new one
            self.close()
            self.listen()
            return None
        if size < 0 or len(data) != size or size % HINT_BYTES:
            return None
        return {data[start : start + HINT_BYTES] for start in range(0, size, HINT_BYTES)}

    def _opened(self) -> int:
        """Return the descriptor of the file, opened or created if necessary. Raises `OSError`."""
        if self._file is not None and os.fstat(self._file).st_nlink == 0 and self._inotify is None:
            self.close()
        if self._file is None:
            self._file = _open(self._path, self._database)
        return self._file


def _open(path: Path, database: Path) -> int:
    """Open or create the file, with the owner and the permissions of the database, as SQLite does with the log.

    Raises:
        OSError: It cannot be opened, or it is another kind of file.
    """
    like = database.stat()
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        state = os.fstat(file)
        if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
            raise OSError("the file is not a hint file")
        if os.geteuid() == 0:
            os.fchown(file, like.st_uid, like.st_gid)
        if os.geteuid() in {0, state.st_uid}:
            os.fchmod(file, stat.S_IMODE(like.st_mode))
    except BaseException:
        os.close(file)
        raise
    return file


def _watch(path: Path) -> int | None:
    """Return a descriptor that is readable when the file changes; None if the kernel refuses."""
    import ctypes  # only processes that wait need it

    libc: Any = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        return None  # the user has too many inotify instances
    if libc.inotify_add_watch(descriptor, os.fsencode(path), IN_MODIFY | IN_ATTRIB) < 0:
        os.close(descriptor)
        return None
    return descriptor
