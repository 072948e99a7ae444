"""Checks of arguments and options. Every backend makes them before an operation begins."""

from collections.abc import Iterable
from dataclasses import fields
from math import isnan
from typing import Any, Final

from brrr_core.backend.options import Duration
from brrr_core.errors import ArgumentError, BodyTooLargeError, OptionError, ValueTooLargeError

__all__ = [
    "LONGEST_DURATION",
    "check_bodies",
    "check_delay",
    "check_durations",
    "check_limit",
    "check_topic",
    "check_ttl",
    "check_values",
    "check_wait",
]

LONGEST_DURATION: Final = 10 * 365 * 24 * 3600.0
"""The longest duration of an option, in seconds: ten years, which every client and server can represent."""

MAX_ATTEMPTS: Final = 10
MAX_BACKOFF: Final = 300.0
USUAL_LEASE: Final = 30.0
"""The defaults of `Policy` for the attempts of a call and the longest backoff, and the usual lease. In seconds."""


def check_durations(options: Any) -> None:
    """Check that every duration of an options instance is from 1 ms to ten years. Raises `OptionError`."""
    for option in fields(options):
        value: object = getattr(options, option.name)
        if isinstance(value, Duration) and not 0.001 <= value <= LONGEST_DURATION:
            raise OptionError(
                f"{option.name} is {value:g} s", remedy=f"Set {option.name} to a time from 1ms to ten years (3650d)."
            )


def check_ttl(ttl: Duration | None, lease: float = USUAL_LEASE) -> None:
    """Check that values do not expire while calls that need them wait and retry. Raises `OptionError`.

    With the defaults of `Policy`, a call makes up to ten attempts. Each can follow the previous one after a lease and
    five minutes of backoff.
    """
    shortest = MAX_ATTEMPTS * (lease + MAX_BACKOFF)
    if ttl is not None and ttl < shortest:
        raise OptionError(
            f"ttl is {ttl:g} s: values would expire before the calls that wait for them are retried",
            remedy=f"Set ttl to at least {shortest:g}s, and to at least twice the longest wait, or leave it out.",
        )


def check_topic(topic: str) -> None:
    """Check that a topic is a non-empty str. Raises `ArgumentError`."""
    if not isinstance(topic, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
        raise ArgumentError(
            f"the topic is {topic!r}, a {type(topic).__name__}", remedy="Pass the name of the topic as a str."
        )
    if not topic:
        raise ArgumentError("the topic is empty", remedy="Pass the name of the topic.")


def check_limit(limit: int) -> None:
    """Check that a limit is at least 1. Raises `ArgumentError`."""
    if limit < 1:
        raise ArgumentError(f"limit is {limit}", remedy="Pass a limit of at least 1.")


def check_wait(wait: float) -> None:
    """Check that a wait is 0 seconds (do not wait) or more. It can be infinite. Raises `ArgumentError`."""
    if wait < 0 or isnan(wait):
        raise ArgumentError(f"wait is {wait} seconds", remedy="Pass 0 seconds or more; 0 does not wait.")


def check_delay(delay: float) -> None:
    """Check that a delay is a finite number of seconds, 0 or more. Raises `ArgumentError`."""
    if not 0 <= delay < float("inf"):
        raise ArgumentError(f"delay is {delay} seconds", remedy="Pass a finite number of seconds, 0 or more.")


def check_bodies(topic: str, bodies: Iterable[bytes], max_bytes: int) -> None:
    """Check that every body has at most `max_bytes` bytes. Raises `BodyTooLargeError`."""
    for body in bodies:
        if len(body) > max_bytes:
            raise BodyTooLargeError(
                f"a message body of {len(body)} bytes for the topic {topic!r} exceeds the queue's limit of {max_bytes}",
                remedy="No message of the batch was put. Make the body smaller, or use a queue with a higher limit.",
            )


def check_values(values: Iterable[bytes | None], max_bytes: int) -> None:
    """Check that every value that is not None has at most `max_bytes` bytes. Raises `ValueTooLargeError`."""
    for value in values:
        if value is not None and len(value) > max_bytes:
            raise ValueTooLargeError(
                f"a value of {len(value)} bytes exceeds the store's limit of {max_bytes}",
                remedy="No item of the batch was written. Keep large data elsewhere, and pass its name.",
            )
