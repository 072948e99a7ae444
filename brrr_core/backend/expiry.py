"""The rule of `ttl`: which records of a store expire, and when.

A value is kept for the `ttl` after the last time that it was written or read. Its call record is kept as long as the
value. Records of calls without a value never expire. A read refreshes a value only if a quarter of the `ttl` has
passed since it was last refreshed. So after each read, a value stays for at least three quarters of the `ttl`. A call
may wait for half of it (`brrr_core/engine/wait_limits.py`).
"""

from typing import Final

from brrr_core.backend.contracts import Key

__all__ = ["REFRESH_SHARE", "call_record_of", "may_expire"]

REFRESH_SHARE: Final = 0.25
"""Share of the `ttl` after which the next read refreshes a value."""

RESERVED: Final = "brrr."
"""Prefix of the hashes of the engine's own records. No call has such a hash."""

FLEET_RECORDS: Final = ("brrr.control", "brrr.cron/")
"""Prefixes of the hashes of records that belong to a fleet and not to a call. A fleet that rests must keep them."""


def may_expire(key: Key) -> bool:
    """Whether a `ttl` applies to a record. It does not apply to a call record while the call has no value."""
    return key.kind == "value" and not key.call_hash.startswith(FLEET_RECORDS)


def call_record_of(key: Key) -> Key | None:
    """Return the key of the call record that expires together with this value; None if there is none."""
    return Key("call", key.call_hash) if key.kind == "value" and not key.call_hash.startswith(RESERVED) else None
