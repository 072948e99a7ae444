"""Where a URL's file is."""

from pathlib import Path
from typing import NoReturn

from brrr_core.backend import BackendUrl
from brrr_core.errors import UrlError

__all__ = ["path_of"]


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


def _refuse(url: BackendUrl, why: str, remedy: str) -> NoReturn:
    raise UrlError(f"{url} {why}".replace("\0", "%00"), remedy=f"{remedy}, as in sqlite:///brrr.db.")
