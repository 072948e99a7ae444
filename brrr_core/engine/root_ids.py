"""Root ids: random tokens that can also carry the spawn limit of a schedule and the time of a redrive."""

import base64
import re
import secrets
from functools import lru_cache
from typing import Final, NamedTuple

__all__ = ["MAX_SPAWN_LIMIT", "RootInfo", "new_root_id", "parse_root_id"]

CLOCK_SKEW: Final = 60
"""Seconds by which the clocks of two machines may differ."""

MAX_SPAWN_LIMIT: Final = 10**15
"""The largest spawn limit of one schedule. The counters of every cache hold it."""

_ID: Final = re.compile(r"(?:redrive-([0-9]{1,12})-)?(?:limit-([0-9]{1,16})-)?[A-Za-z0-9_-]{22}")


class RootInfo(NamedTuple):
    """The information in a root id. The ids of other SDKs carry none.

    Attributes:
        redriven_at: Unix seconds at which a redrive was scheduled; None for every other schedule.
        spawn_limit: Spawn limit of the schedule; None if the policy's limit applies.
    """

    redriven_at: int | None = None
    spawn_limit: int | None = None

    def is_older_than(self, scheduled_at: int, now: int) -> bool:
        """Whether `scheduled_at` is certainly later than this redrive, although clocks may differ by `CLOCK_SKEW`.

        A time that lies further in the future than `CLOCK_SKEW` proves nothing.
        """
        return self.redriven_at is not None and self.redriven_at + CLOCK_SKEW < scheduled_at <= now + CLOCK_SKEW


def new_root_id(*, redriven_at: int | None = None, spawn_limit: int | None = None) -> str:
    """Return a new root id: its information, then 128 random bits as 22 characters of URL-safe base64."""
    token = base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode()
    redrive = "" if redriven_at is None else f"redrive-{redriven_at}-"
    limit = "" if spawn_limit is None else f"limit-{spawn_limit}-"
    return f"{redrive}{limit}{token}"


_PLAIN: Final = RootInfo()


def parse_root_id(root_id: str) -> RootInfo:
    """Return the information in a root id."""
    return _parse(root_id) if root_id.startswith(("redrive-", "limit-")) else _PLAIN


@lru_cache(maxsize=1024)
def _parse(root_id: str) -> RootInfo:
    found = _ID.fullmatch(root_id)
    if found is None:
        return _PLAIN
    redriven_at, limit = found.groups()
    return RootInfo(int(redriven_at) if redriven_at else None, int(limit) if limit else None)
