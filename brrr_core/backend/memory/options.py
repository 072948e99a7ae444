"""The options of the memory backend, and its largest body and value."""

from dataclasses import dataclass
from typing import Final

from brrr_core.backend.options import Duration
from brrr_core.errors import OptionError

__all__ = ["MAX_BYTES", "MemoryOptions"]

MAX_BYTES: Final = 64 * 1024 * 1024
"""The largest message body and the largest value, in bytes."""

DEFAULT_LEASE: Final = Duration(30)


@dataclass(frozen=True, slots=True)
class MemoryOptions:
    """The options of `memory:`.

    Attributes:
        lease: Lease of a delivery in seconds, more than 0.
    """

    lease: Duration = DEFAULT_LEASE

    def __post_init__(self) -> None:
        if not self.lease > 0:
            raise OptionError(f"lease is {float(self.lease)} seconds", remedy="Set a lease of more than 0 seconds.")
