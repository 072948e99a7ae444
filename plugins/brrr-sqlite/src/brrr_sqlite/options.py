"""The options of a SQLite backend, and the size limit of bodies and values."""

import re
from dataclasses import dataclass, fields
from typing import Final, Literal

from brrr_core.backend import Duration, Size, check_ttl
from brrr_core.errors import OptionError

__all__ = ["MAX_BYTES", "SqliteOptions"]

MIB: Final = 1024 * 1024
MAX_BYTES: Final = 64 * MIB
"""The size limit of a message body and of a value. SQLite's own limit is 1,000,000,000 bytes (SQLITE_MAX_LENGTH)."""

LEASE: Final = Duration(30)
BUSY_TIMEOUT: Final = Duration(15)
POLL: Final = Duration(0.025)
PAGE_CACHE: Final = Size(4 * MIB)
WAL_SIZE: Final = Size(16 * MIB)
MODE: Final = re.compile("0?6[0246][0246]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteOptions:
    """The options of `sqlite:`. Durations are in seconds and sizes in bytes; all are greater than 0.

    Attributes:
        synchronous: `full`: completed operations survive a power cut. `normal`: they survive the death of every
            process, but a power cut may lose the most recent ones. `off`: a power cut may damage the file.
        ttl: How long a value and its call stay after the value was last written or read; without `ttl`, forever.
        lease: The time for which a delivery belongs to its receiver.
        busy_timeout: The longest wait for the locks of other processes, before `BackendUnavailableError`.
        poll: The interval at which a waiting receiver checks whether another process wrote to the file. It limits how
            late the receiver wakes.
        mode: The permissions of a new file and of its -wal and -shm files, in octal. The umask does not change them.
        create: Whether opening creates a missing file. `setup` always creates it.
        page_cache: The part of the file that SQLite keeps in memory.
        wal_size: The size of the write-ahead log at which a checkpoint moves it into the file. A larger transaction is
            still written as a whole; afterwards the log is truncated to this size.
    """

    synchronous: Literal["full", "normal", "off"] = "full"
    ttl: Duration | None = None
    lease: Duration = LEASE
    busy_timeout: Duration = BUSY_TIMEOUT
    poll: Duration = POLL
    mode: str = "0600"
    create: bool = True
    page_cache: Size = PAGE_CACHE
    wal_size: Size = WAL_SIZE

    def __post_init__(self) -> None:
        for option in fields(self):
            value: object = getattr(self, option.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
                raise OptionError(f"{option.name} is {value}", remedy=f"Set {option.name} to a value greater than 0.")
        check_ttl(self.ttl, self.lease)
        if not MODE.fullmatch(self.mode):
            raise OptionError(
                f"mode is {self.mode!r}",
                remedy="Use octal digits that let the owner read and write, such as 0600, 0640 or 0660.",
            )
