"""The file that a URL names, and the check that it stays in place while it is open."""

from pathlib import Path
from typing import NoReturn

from brrr_core.backend import BackendUrl
from brrr_core.errors import BackendClosedError, UrlError

__all__ = ["OpenFile", "database_path"]


def database_path(url: BackendUrl) -> Path:
    """Return the file of `sqlite:///relative.db` or `sqlite:////absolute.db`, as an absolute path.

    As in SQLAlchemy, the first slash of the path belongs to the URL. A relative path starts at the working directory of
    this moment.

    Raises:
        UrlError: The URL does not name a file, or it has a host, a user or a password.
    """
    if url.hosts:
        _refuse(url, "names a host", "Write three slashes before a relative path, four before an absolute one")
    if url.username is not None or url.password is not None:
        _refuse(url, "names a user", "Remove it: a file has no login")
    name = url.path.removeprefix("/")
    if name == ":memory:" or not name:
        _refuse(url, "does not name a file", "Use memory: if the data may live in this process only, or name a file")
    if not url.path.startswith("/"):
        _refuse(url, "lacks its slashes", "Write three slashes before a relative path, four before an absolute one")
    if name.endswith("/"):
        _refuse(url, "names a folder", "Name a file in that folder")
    if "\0" in name:
        _refuse(url, "contains a NUL character", "Remove that character from the file name")
    return Path(name).absolute()


class OpenFile:
    """An open file and its write-ahead log. SQLite itself keeps working on a removed file without an error.

    Args:
        path: The absolute path of the file.
    """

    def __init__(self, path: Path) -> None:
        resolved = path.resolve()
        self.path = path
        self.log = resolved.with_name(f"{resolved.name}-wal")
        self._file_id = self._log_id = (0, 0)

    def remember(self) -> None:
        """Remember the identity of the open file and of its log."""
        self._file_id, _ = self._stat(self.path)
        self._log_id, _ = self._stat(self.log)

    def check(self) -> None:
        """Check that the path still names the open file.

        Raises:
            BackendClosedError: It does not: the file was removed, moved or replaced.
        """
        if self._stat(self.path)[0] != self._file_id:
            raise self._gone(self.path)

    def log_size(self) -> int:
        """Return the size of the log in bytes.

        Raises:
            BackendClosedError: The log was removed, moved or replaced.
        """
        log_id, size = self._stat(self.log)
        if log_id != self._log_id:
            raise self._gone(self.log)
        return size

    def _stat(self, path: Path) -> tuple[tuple[int, int], int]:
        try:
            state = path.stat()
        except OSError:
            return (0, 0), 0
        return (state.st_dev, state.st_ino), state.st_size

    def _gone(self, path: Path) -> BackendClosedError:
        return BackendClosedError(
            f"{path} was removed, moved or replaced while it was open",
            remedy="Restart this process, so that it opens the current file. Before you move or remove the file, its "
            f"-wal or its -shm, stop every process that uses {self.path.name}.",
        )


def _refuse(url: BackendUrl, why: str, remedy: str) -> NoReturn:
    raise UrlError(f"{url} {why}".replace("\0", "%00"), remedy=f"{remedy}, as in sqlite:///brrr.db.")
