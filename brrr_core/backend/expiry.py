"""The rule of `ttl`: which records of a store expire, and when.

A value is kept for the `ttl` after the last time that it was written or read. Its call record is kept as long as the
value. Records of calls without a value never expire. A read refreshes a value only if a quarter of the `ttl` has
passed since it was last refreshed. So after each read, a value stays for at least three quarters of the `ttl`. A call
may wait for half of it (`brrr_core/engine/wait_limits.py`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from brrr_core.backend.contracts import Key
from brrr_core.backend.tasks import start_task
from brrr_core.errors import BackendError

__all__ = ["REFRESH_SHARE", "CallExpirer", "call_record_of", "may_expire"]

REFRESH_SHARE: Final = 0.25
"""Share of the `ttl` after which the next read refreshes a value."""

RESERVED: Final = "brrr."
"""Prefix of the hashes of the engine's own records. No call has such a hash."""

FLEET_RECORDS: Final = ("brrr.control", "brrr.cron/")
"""Prefixes of the hashes of records that belong to a fleet and not to a call. An idle fleet must keep them."""


def may_expire(key: Key) -> bool:
    """Whether a `ttl` applies to a record. It does not apply to a call record while the call has no value."""
    return key.kind == "value" and not key.call_hash.startswith(FLEET_RECORDS)


def call_record_of(key: Key) -> Key | None:
    """Return the key of the call record that expires together with this value; None if there is none."""
    return Key("call", key.call_hash) if key.kind == "value" and not key.call_hash.startswith(RESERVED) else None


CLOSE_TIMEOUT: Final = 2.0
"""Longest time in seconds that a backend waits for the expiry of calls when it closes."""


class CallExpirer:
    """Lets call records expire in the background, so that no caller waits for it.

    For stores that need a separate request for it. If the process dies first, the call record stays for good.

    Args:
        expire: Lets call records expire with their values.
    """

    def __init__(self, expire: Callable[[Sequence[Key]], Awaitable[None]]) -> None:
        self._expire = expire
        self._waiting: dict[Key, None] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, values: Iterable[Key]) -> None:
        """Let the call records of these values expire soon."""
        calls = map(call_record_of, values)
        self._waiting.update((call, None) for call in calls if call is not None)
        if self._waiting and self._task is None:
            self._task = start_task(self._run())

    async def finish(self) -> None:
        """Wait until all of them expire."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def close(self) -> None:
        """Wait briefly until all of them expire: the backend closes."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=CLOSE_TIMEOUT)

    async def _run(self) -> None:
        try:
            while self._waiting:
                calls, self._waiting = [*self._waiting], {}
                with suppress(BackendError):  # these records stay until their values are refreshed
                    await self._expire(calls)
        finally:
            self._task = None
