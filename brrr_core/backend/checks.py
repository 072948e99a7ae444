"""Checks of arguments and options. Every backend makes them before an operation begins."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from math import isnan
from typing import Any, Final

from brrr_core.backend.contracts import Key, Swap
from brrr_core.backend.options import Duration
from brrr_core.backend.steps import Step
from brrr_core.errors import ArgumentError, BodyTooLargeError, OptionError, ValueTooLargeError
from brrr_core.safe_text import safe_repr

__all__ = [
    "LARGEST_COUNT",
    "LARGEST_LIMIT",
    "LONGEST_DURATION",
    "LONGEST_NAME",
    "check_amounts",
    "check_bodies",
    "check_delay",
    "check_durations",
    "check_items",
    "check_keys",
    "check_limit",
    "check_step",
    "check_swaps",
    "check_topic",
    "check_ttl",
    "check_values",
    "check_wait",
]

LONGEST_DURATION: Final = 10 * 365 * 24 * 3600.0
"""The longest duration of an option, in seconds: ten years, which every client and server can represent."""

LONGEST_NAME: Final = 1024
"""The longest topic, call hash or name of a counter, in bytes of UTF-8."""

LARGEST_LIMIT: Final = 2**31
"""The largest `limit` of an operation. It does not fit into 32 bits with a sign."""

LARGEST_COUNT: Final = 2**62
"""The largest amount, and the bound within which every counter is exact. The sum of two fits into 64 bits."""

SINGLE: Final = (bytes, bytearray, memoryview, str)
"""Types of one body that a caller may pass in place of a batch."""

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
    """Check that a topic is a str of 1 to `LONGEST_NAME` bytes in UTF-8. Raises `ArgumentError`."""
    _check_name(topic, "topic")


def check_keys(keys: Iterable[Key]) -> None:
    """Check that each call hash is 1 to `LONGEST_NAME` printable US-ASCII characters. Raises `ArgumentError`."""
    for _, call_hash in keys:
        _check_name(call_hash, "call hash")
        if not (call_hash.isascii() and call_hash.isprintable()):
            raise ArgumentError(
                f"the call hash {_shown(call_hash)} is not printable US-ASCII",
                remedy="Encode it, for example in base 32.",
            )


def check_amounts(amounts: Iterable[tuple[str, int]]) -> None:
    """Check the names of counters, which are like topics, and that each amount is an int of at most `LARGEST_COUNT`.

    Raises:
        ArgumentError: A name or an amount is wrong. Nothing was added.
    """
    for name, amount in amounts:
        _check_name(name, "counter")
        if not _is_between(-LARGEST_COUNT, amount, LARGEST_COUNT):
            raise ArgumentError(
                f"the amount {_shown(amount)} for the counter {_shown(name)} is not an int from -2**62 to 2**62",
                remedy="Add a smaller whole number.",
            )


def check_limit(limit: int) -> None:
    """Check that a limit is an int from 1 to `LARGEST_LIMIT`. Raises `ArgumentError`."""
    if not _is_between(1, limit, LARGEST_LIMIT):
        raise ArgumentError(f"limit is {_shown(limit)}", remedy="Pass a whole number from 1 to 2**31.")


def check_wait(wait: float) -> None:
    """Check that a wait is 0 seconds (do not wait) or more. It can be infinite. Raises `ArgumentError`."""
    if wait < 0 or isnan(wait):
        raise ArgumentError(f"wait is {wait} seconds", remedy="Pass 0 seconds or more; 0 does not wait.")


def check_delay(delay: float) -> None:
    """Check that a delay is a finite number of seconds, 0 or more. Raises `ArgumentError`."""
    if not 0 <= delay < float("inf"):
        raise ArgumentError(f"delay is {delay} seconds", remedy="Pass a finite number of seconds, 0 or more.")


def check_bodies(topic: str, bodies: Sequence[bytes], max_bytes: int) -> None:
    """Check that `bodies` is a batch of bytes objects, each of at most `max_bytes` bytes.

    Raises:
        ArgumentError: The batch is a single bytes or str, or a body is not bytes.
        BodyTooLargeError: A body is too large.
    """
    if isinstance(bodies, SINGLE):
        raise ArgumentError(
            f"the messages for the topic {topic!r} are one {type(bodies).__name__}, not a list of bodies",
            remedy="Pass a list of bytes, even for one message: [body].",
        )
    for body in bodies:
        _check_bytes(body, "message body")
        if len(body) > max_bytes:
            raise BodyTooLargeError(
                f"a message body of {len(body)} bytes for the topic {topic!r} exceeds the queue's limit of {max_bytes}",
                remedy="No message of the batch was put. Make the body smaller, or use a queue with a higher limit.",
            )


def check_values(values: Iterable[bytes | None], max_bytes: int) -> None:
    """Check that every value is bytes of at most `max_bytes`, or None.

    Raises:
        ArgumentError: A value has another type.
        ValueTooLargeError: A value is too large.
    """
    for value in values:
        if value is not None:
            _check_value(value, max_bytes)


def check_items(items: Sequence[tuple[Key, bytes]], max_bytes: int) -> None:
    """Check the keys and the values of a write. Raises the errors of `check_keys` and `check_values`."""
    check_keys([key for key, _ in items])
    for _, value in items:
        _check_value(value, max_bytes)


def check_swaps(swaps: Sequence[Swap], max_bytes: int) -> None:
    """Check keys, expected and new values of swaps. Raises the errors of `check_keys` and `check_values`."""
    check_keys([key for key, _, _ in swaps])
    check_values([new for _, _, new in swaps], max_bytes)
    _check_expected([expected for _, expected, _ in swaps])


def check_step(step: Step, *, max_body: int, max_value: int) -> None:
    """Check all arguments of a step as the operations of the roles do. Raises the errors of the other checks."""
    for message in step.messages:
        check_topic(message.topic)
        check_delay(message.delay)
        check_bodies(message.topic, (message.body,), max_body)
    expected, counts, writes, _, marks, _ = step
    written = (*writes, *marks)
    check_keys([key for key, _ in (*expected, *written)])
    _check_expected([record for _, record in expected])
    check_values([record for _, record in written], max_value)
    check_amounts([count[:2] for count in counts])


def _is_between(least: int, number: object, most: int) -> bool:
    return isinstance(number, int) and least <= number <= most


def _check_name(name: object, what: str) -> None:
    if isinstance(name, str) and name.isascii() and 0 < len(name) <= LONGEST_NAME:
        return
    if not isinstance(name, str):
        raise ArgumentError(
            f"the {what} is {_shown(name)}, a {type(name).__name__}", remedy=f"Pass the name of the {what} as a str."
        )
    if not name:
        raise ArgumentError(f"the {what} is empty", remedy=f"Pass the name of the {what}.")
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise ArgumentError(
            f"the {what} {_shown(name)} contains half of a surrogate pair", remedy="Pass text that UTF-8 can encode."
        ) from error
    if size > LONGEST_NAME:
        raise ArgumentError(
            f"the {what} {_shown(name)} has {size} bytes in UTF-8, more than {LONGEST_NAME}",
            remedy="Use a shorter name.",
        )


def _check_expected(records: Iterable[bytes | None]) -> None:
    for record in records:
        if record is not None:
            _check_bytes(record, "expected value")


def _check_value(value: bytes, max_bytes: int) -> None:
    _check_bytes(value, "value")
    if len(value) > max_bytes:
        raise ValueTooLargeError(
            f"a value of {len(value)} bytes exceeds the store's limit of {max_bytes}",
            remedy="No item of the batch was written. Keep large data elsewhere, and pass its name.",
        )


def _check_bytes(data: object, what: str) -> None:
    if not isinstance(data, bytes):
        raise ArgumentError(f"a {what} is a {type(data).__name__}, not bytes", remedy="Encode it as bytes first.")


def _shown(value: object) -> str:
    """Return the beginning of a `repr`, even of an int with too many digits for one."""
    return safe_repr(value)[:100]
