"""What a SQLite backend can be told, and the largest body and value that it takes."""

import re
from dataclasses import dataclass, fields
from typing import Final, Literal

from brrr_core.backend import Duration, Size
from brrr_core.errors import OptionError

__all__ = ["MAX_BYTES", "SqliteOptions"]

MIB: Final = 1024 * 1024
MAX_BYTES: Final = 64 * MIB
"""The largest message body and the largest value, in bytes. SQLite itself ends at 1,000,000,000 (SQLITE_MAX_LENGTH)."""

LEASE: Final = Duration(30)
BUSY_TIMEOUT: Final = Duration(15)
POLL: Final = Duration(0.025)
PAGE_CACHE: Final = Size(4 * MIB)
WAL_SIZE: Final = Size(16 * MIB)
MODE: Final = re.compile("0?6[0246][0246]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteOptions:
    """The options of `sqlite:`. All durations are in seconds and more than 0, all sizes in bytes and more than 0.

    Attributes:
        synchronous: `full`: what returned survives a power cut. `normal`: it survives the death of every process, and
            a power cut may take the last moments. `off`: a power cut may damage the file.
        lease: How long a delivery stays with its receiver.
        busy_timeout: How long to wait for other processes' locks before `BackendUnavailableError`.
        poll: How often a waiting receiver looks whether another process has written; bounds its wake-up.
        mode: The permissions of a file that is made, and of its -wal and -shm, in octal, whatever the umask.
        create: Whether opening makes the file where there is none. `setup` makes it anyhow.
        page_cache: How much of the file SQLite keeps in memory.
        wal_size: How large the write-ahead log grows before it is moved into the file. A transaction larger than that
            is still written whole; afterwards the log is cut back to this size.
    """

    synchronous: Literal["full", "normal", "off"] = "full"
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
                raise OptionError(f"{option.name} is {value}", remedy=f"Give {option.name} a value of more than 0.")
        if not MODE.fullmatch(self.mode):
            raise OptionError(
                f"mode is {self.mode!r}",
                remedy="Give it as octal digits that let the owner read and write, such as 0600, 0640 or 0660.",
            )
