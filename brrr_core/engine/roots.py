"""The root of each schedule: its id, which can carry a spawn limit and the time of a redrive, and its message count.

Each message is counted for its root before it is put (`docs/reference/protocol.md`, Cache).
"""

import base64
import hashlib
import re
import secrets
from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from typing import Final, NamedTuple

from brrr_core.backend.steps import Count
from brrr_core.engine.operations import Operations
from brrr_core.errors import ArgumentError, SpawnLimitError
from brrr_core.wire import count_key

__all__ = [
    "DROPPED",
    "MAX_SPAWN_LIMIT",
    "RETRIED",
    "SETTLING",
    "TIMER",
    "RootInfo",
    "SpawnBudget",
    "check_spawn_limit",
    "dropped_root_id",
    "is_root",
    "is_settling",
    "new_root_id",
    "parse_root_id",
    "retry_root_id",
    "settling_root_id",
    "split_dropped",
    "split_timer",
    "timer_root_id",
]

CLOCK_SKEW: Final = 60
"""Seconds by which the clocks of two machines may differ."""

MAX_SPAWN_LIMIT: Final = 10**15
"""The largest spawn limit of one schedule. The counters of every cache hold it."""

SHARED_LIMIT: Final = 10_000
"""The count above which workers of every SDK refuse a root. The counter of a root with its own limit starts at
`SHARED_LIMIT` minus that limit, so that workers that do not know the limit obey it, too."""

CHECK_BYTES: Final = 6
"""Bytes of a root id that name its call. By chance, one of 2.8e14 other calls has the same."""

_ID: Final = re.compile(r"(?:redrive-([0-9]{1,12})-)?(?:limit-([0-9]{1,16})-)?[A-Za-z0-9_-]{22}")


SETTLING: Final = "settle-"
"""Prefix of the root ids of marks: a client is about to settle the call."""

SETTLING_LIMIT: Final = 3_600
"""Seconds after which a client that began to settle a call, and did not end, is forgotten."""

RETRIED: Final = "retry-"
"""Prefix of the root ids of notes: a retry deleted the failure of the call, and it was not put since."""

DROPPED: Final = "drop-"
"""Prefix of the root ids of notes: a message of the call was dropped, because its schedule was cancelled."""

TIMER: Final = "timer-"
"""Prefix of the root ids of timer messages."""

_TIMER: Final = re.compile(r"timer-([0-9]{1,15})-(.+)")
_DROPPED: Final = re.compile(r"drop-([0-9]{1,15})-(.+)")
_SETTLING: Final = re.compile(r"settle-([0-9]{1,12})-.+")


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

        A time more than `CLOCK_SKEW` in the future proves nothing.
        """
        return self.redriven_at is not None and self.redriven_at + CLOCK_SKEW < scheduled_at <= now + CLOCK_SKEW


def new_root_id(call_hash: str, *, redriven_at: int | None = None, spawn_limit: int | None = None) -> str:
    """Return a new root id for a call: its information, then a token of 22 characters of URL-safe base64.

    The token has 80 random bits, and 48 bits of a hash of these and the call: `is_root` knows the call by them.
    """
    redrive = "" if redriven_at is None else f"redrive-{redriven_at}-"
    limit = "" if spawn_limit is None else f"limit-{spawn_limit}-"
    random = secrets.token_bytes(16 - CHECK_BYTES)
    return f"{redrive}{limit}{_encoded(random + _check(random, call_hash))}"


def is_root(root_id: str, call_hash: str) -> bool:
    """Whether a root id was made for this call. False for each root id of another SDK."""
    if not _ID.fullmatch(root_id):
        return False
    token = base64.urlsafe_b64decode(root_id[-22:] + "==")
    return token[-CHECK_BYTES:] == _check(token[:-CHECK_BYTES], call_hash)


def _check(random: bytes, call_hash: str) -> bytes:
    return hashlib.blake2b(call_hash.encode(), key=random, digest_size=CHECK_BYTES).digest()


def _encoded(token: bytes) -> str:
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def timer_root_id(root_id: str, due: float) -> str:
    """Return the root id of a timer message: a wake-up under `root_id` that is due at `due`, in unix seconds."""
    return f"{TIMER}{ceil(due * 1000)}-{root_id}"


def split_timer(root_id: str) -> tuple[float, str]:
    """Return the due time of a timer message, in unix seconds, and its root id; 0 and the root id of others."""
    found = _TIMER.fullmatch(root_id) if root_id.startswith(TIMER) else None
    return (0, root_id) if found is None else (int(found[1]) / 1000, found[2])


def settling_root_id(now: float) -> str:
    """Return the root id of the mark of a client that settles a call: a return of the call to itself."""
    return f"{SETTLING}{int(now)}-{_encoded(secrets.token_bytes(16))}"


def retry_root_id() -> str:
    """Return a new root id of the note of a retry: a return of the call to itself."""
    return f"{RETRIED}{_encoded(secrets.token_bytes(16))}"


def is_settling(root_id: str, now: float) -> bool:
    """Whether this is the root id of the mark of a client that may still settle the call."""
    found = _SETTLING.fullmatch(root_id) if root_id.startswith(SETTLING) else None
    return found is not None and abs(now - int(found[1])) < SETTLING_LIMIT


def dropped_root_id(root_id: str, at: int) -> str:
    """Return the root id of the note that a message of a cancelled schedule was dropped at `at`, in unix milliseconds.

    The note is a return of the call to itself.
    """
    return f"{DROPPED}{at}-{root_id}"


def split_dropped(root_id: str) -> tuple[int, str]:
    """Return when a message was dropped, in unix milliseconds, and the root id of its schedule; 0 for other ids."""
    found = _DROPPED.fullmatch(root_id) if root_id.startswith(DROPPED) else None
    return (0, root_id) if found is None else (int(found[1]), found[2])


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


def check_spawn_limit(limit: int | None) -> None:
    """Check the spawn limit of one schedule.

    Raises:
        ArgumentError: The limit is less than 1 or too large.
    """
    if limit is not None and not 1 <= limit <= MAX_SPAWN_LIMIT:
        raise ArgumentError(f"spawn_limit is {limit}", remedy=f"Set it to a number from 1 to {MAX_SPAWN_LIMIT}.")


class SpawnBudget:
    """The message counters of all roots, and the limit of the roots that have no limit of their own."""

    def __init__(self, operations: Operations, limit: int) -> None:
        self._operations = operations
        self._limit = limit

    async def open(self, root_id: str) -> bool:
        """Start the counter of a root and count its first message. True if the message may be put."""
        return (await self.open_all([root_id]))[0]

    async def open_all(self, root_ids: Sequence[str]) -> list[bool]:
        """Start the counters of roots and count their first messages. True for each whose message may be put."""
        return await self._charge([(root_id, _first_count(root_id)) for root_id in root_ids])

    def opening(self, root_ids: Sequence[str]) -> list[Count | None]:
        """Return the counts of steps that put the first message of each root; None if its counter begins below 0."""
        amounts = [(root_id, _first_count(root_id)) for root_id in root_ids]
        return [
            Count(count_key(root_id), amount, self._limit_of(root_id)) if amount > 0 else None
            for root_id, amount in amounts
        ]

    async def charge(self, root_ids: Sequence[str]) -> list[bool]:
        """Count one message for each root id. True for each whose message may be put."""
        return await self._charge([(root_id, 1) for root_id in root_ids])

    async def used_up(self, root_ids: Sequence[str]) -> set[str]:
        """Return the roots that may put no more messages. Nothing is counted."""
        counts = await self._operations.count([(count_key(root_id), 0) for root_id in root_ids])
        return {root_id for root_id, count in zip(root_ids, counts, strict=True) if count >= self._limit_of(root_id)}

    def counts(self, root_ids: Sequence[str]) -> list[Count]:
        """Return the counts of a step that puts a message for each of these root ids."""
        amounts: dict[str, int] = {}
        for root_id in root_ids:
            amounts[root_id] = amounts.get(root_id, 0) + 1
        return [Count(count_key(root_id), amount, self._limit_of(root_id)) for root_id, amount in amounts.items()]

    def _limit_of(self, root_id: str) -> int:
        """Return the count above which the messages of a root are refused."""
        return self._limit if parse_root_id(root_id).spawn_limit is None else SHARED_LIMIT

    async def _charge(self, charges: Sequence[tuple[str, int]]) -> list[bool]:
        counts = await self._operations.count([(count_key(root_id), amount) for root_id, amount in charges])
        return [count <= self._limit_of(root_id) for (root_id, _), count in zip(charges, counts, strict=True)]

    def exceeded(self, root_id: str) -> SpawnLimitError:
        """Return the error of a root that has used up its messages."""
        limit = parse_root_id(root_id).spawn_limit or self._limit
        return SpawnLimitError(
            f"the schedule {root_id} caused more than {limit} messages",
            remedy="If its call graph is that large, schedule the call again with a higher limit: schedule(..., "
            "spawn_limit=N) or brrr schedule --spawn-limit N. Finished calls do not run again. Otherwise look for an "
            "endless recursion or a handler that is not deterministic.",
        )


def _first_count(root_id: str) -> int:
    """Return the count of the first message of a root. If it has its own limit, its counter begins where that fits."""
    own = parse_root_id(root_id).spawn_limit
    return 1 if own is None else SHARED_LIMIT - own + 1
