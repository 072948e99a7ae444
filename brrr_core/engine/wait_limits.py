"""Waits and values: a call may wait only for as long as the store keeps the values that the call reads afterwards.

After a run, each value that it read stays for at least three quarters of the store's `ttl` (`backend/expiry.py`). Of
these, a wait takes at most two quarters, and the worker's memory of values half a quarter. The rest is for a message
that is late, and for retries.
"""

from math import isinf
from typing import Final

from brrr_core.errors import WaitTooLongError

__all__ = ["check_wait", "longest_cached"]

WAIT_SHARE: Final = 0.5
"""Largest share of the `ttl` that a wait may take."""

CACHE_SHARE: Final = 0.125
"""Share of the `ttl` for which a worker uses a value without reading it again."""


def check_wait(what: str, seconds: float, expires_after: float | None) -> None:
    """Check that the values that a call has read stay while the call waits.

    Args:
        what: The wait, for the error, such as `the sleep`.
        seconds: Its length; infinite for a wait without a deadline.
        expires_after: `Operations.expires_after`: the `ttl` of the store, or None.

    Raises:
        WaitTooLongError: The wait is longer than half of the `ttl`.
    """
    if expires_after is None or seconds <= expires_after * WAIT_SHARE:
        return
    if isinf(seconds):
        length, remedy = "has no end", f"Give it a deadline of at most {expires_after * WAIT_SHARE:g} s"
    else:
        length, remedy = f"is {seconds:g} s", f"Set `ttl` to at least {seconds / WAIT_SHARE:g}s"
    raise WaitTooLongError(
        f"{what} {length}, more than half of the store's `ttl` of {expires_after:g} s: values that the call has read "
        "could expire before it runs again",
        remedy=f"{remedy}, or leave `ttl` out of the store's URL.",
    )


def longest_cached(expires_after: float | None) -> float | None:
    """Return the most seconds that a worker may use a value without reading it again; None for no limit."""
    return None if expires_after is None else expires_after * CACHE_SHARE
