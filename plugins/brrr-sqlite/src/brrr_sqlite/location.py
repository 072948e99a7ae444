"""Where a URL's file is, and whether it is still there while it is open."""

from pathlib import Path
from typing import NoReturn

from brrr_core.backend import BackendUrl
from brrr_core.errors import BackendClosedError, UrlError

__all__ = ["OpenFile", "path_of"]


def path_of(url: BackendUrl) -> Path:
    """The file of `sqlite:///relative.db` or `sqlite:////absolute.db`, as an absolute path.

    One leading slash belongs to the URL, as in SQLAlchemy's. A relative path counts from the working directory of now.

    Raises:
        UrlError: The URL names no file, or something besides a file.
    """
    if url.hosts:
        _refuse(url, "names a host", "Write three slashes before a relative path, four before an absolute one")
    if url.username is not None or url.password is not None:
        _refuse(url, "names a user", "A file has no login")
    name = url.path.removeprefix("/")
    if name == ":memory:" or not name:
        _refuse(url, "names no file", "Use memory: for a queue, store and cache that live in this process only")
    if not url.path.startswith("/"):
        _refuse(url, "lacks its slashes", "Write three slashes before a relative path, four before an absolute one")
    if name.endswith("/"):
        _refuse(url, "names a folder", "Name the file in it")
    if "\0" in name:
        _refuse(url, "holds a NUL character", "Name the file without it")
    return Path(name).absolute()


class OpenFile:
    """The file and its write-ahead log while they are open. SQLite works on in a removed file, and says nothing.

    Args:
        path: The file, absolute.
    """

    def __init__(self, path: Path) -> None:
        resolved = path.resolve()
        self.path = path
        self.log = resolved.with_name(f"{resolved.name}-wal")
        self._file = self._log = (0, 0)

    def mark(self) -> None:
        """Remember which file was opened."""
        self._file, _ = self._look(self.path)
        self._log, _ = self._look(self.log)

    def check(self) -> None:
        """See that the path still names the file that was opened.

        Raises:
            BackendClosedError: It was removed, moved or replaced.
        """
        if self._look(self.path)[0] != self._file:
            raise self._gone(self.path)

    def log_size(self) -> int:
        """The size of the log in bytes.

        Raises:
            BackendClosedError: It was removed, moved or replaced.
        """
        log, size = self._look(self.log)
        if log != self._log:
            raise self._gone(self.log)
        return size

    def _look(self, path: Path) -> tuple[tuple[int, int], int]:
        try:
            state = path.stat()
        except OSError:
            return (0, 0), 0
        return (state.st_dev, state.st_ino), state.st_size

    def _gone(self, path: Path) -> BackendClosedError:
        return BackendClosedError(
            f"{path} was removed, moved or replaced while it was open",
            remedy="Start this process again, so that it opens the file that is there. Stop every process that uses "
            f"{self.path.name} before you move or remove it, its -wal or its -shm.",
        )


def _refuse(url: BackendUrl, why: str, remedy: str) -> NoReturn:
    raise UrlError(f"{url} {why}".replace("\0", "%00"), remedy=f"{remedy}, as in sqlite:///brrr.db.")
