"""The checks of arguments that every backend makes before it does anything."""

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
"""Seconds of the longest time that an option can have: ten years, which every client and server can count."""

ATTEMPTS: Final = 10
BACKOFF: Final = 300.0
LEASE: Final = 30.0
"""The most attempts and the longest backoff of a call by the default policy, and the usual lease, in seconds."""


def check_durations(options: Any) -> None:
    """Every duration of an options class is from a millisecond to ten years. Raises `OptionError`."""
    for option in fields(options):
        value: object = getattr(options, option.name)
        if isinstance(value, Duration) and not 0.001 <= value <= LONGEST_DURATION:
            raise OptionError(
                f"{option.name} is {value:g} s", remedy=f"Give {option.name} from 1ms to ten years (3650d)."
            )


def check_ttl(ttl: Duration | None, lease: float = LEASE) -> None:
    """Check that values outlive the waits and retries of the calls that need them. Raises `OptionError`.

    A call that needs a value may use ten attempts, each up to a lease and five minutes of backoff after the one before:
    the defaults of `Policy`.
    """
    least = ATTEMPTS * (lease + BACKOFF)
    if ttl is not None and ttl < least:
        raise OptionError(
            f"ttl is {ttl:g} s: values would expire before the calls that wait for them are retried",
            remedy=f"Give ttl at least {least:g}s, and more than the longest workflow takes, or leave it out.",
        )


def check_topic(topic: str) -> None:
    """A topic is any text but the empty one. Raises `ArgumentError`."""
    if not isinstance(topic, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
        raise ArgumentError(f"the topic is {topic!r}, a {type(topic).__name__}", remedy="Name the topic by a text.")
    if not topic:
        raise ArgumentError("the topic is the empty text", remedy="Name the topic.")


def check_limit(limit: int) -> None:
    """A limit is at least 1. Raises `ArgumentError`."""
    if limit < 1:
        raise ArgumentError(f"limit is {limit}", remedy="Ask for at least 1.")


def check_wait(wait: float) -> None:
    """A wait is 0 seconds (do not wait) or more, without an upper bound. Raises `ArgumentError`."""
    if wait < 0 or isnan(wait):
        raise ArgumentError(f"wait is {wait} seconds", remedy="Wait 0 seconds or more; 0 does not wait.")


def check_delay(delay: float) -> None:
    """A delay is a finite number of seconds, 0 or more. Raises `ArgumentError`."""
    if not 0 <= delay < float("inf"):
        raise ArgumentError(f"delay is {delay} seconds", remedy="Delay by a finite number of seconds, 0 or more.")


def check_bodies(topic: str, bodies: Iterable[bytes], most: int) -> None:
    """Every body has at most `most` bytes. Raises `BodyTooLargeError`."""
    for body in bodies:
        if len(body) > most:
            raise BodyTooLargeError(
                f"a message body of {len(body)} bytes for the topic {topic!r} is over this queue's {most}",
                remedy="Nothing of the batch was put; make the body smaller, or use a queue that carries more.",
            )


def check_values(values: Iterable[bytes | None], most: int) -> None:
    """Every value that is present has at most `most` bytes. Raises `ValueTooLargeError`."""
    for value in values:
        if value is not None and len(value) > most:
            raise ValueTooLargeError(
                f"a value of {len(value)} bytes is over this store's {most}",
                remedy="Nothing of the batch was written; keep large data elsewhere and pass its name.",
            )
