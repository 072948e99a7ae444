"""JavaScript's number format and key order, which differ from Python's."""

from collections.abc import Collection
from decimal import Decimal
from typing import Final

__all__ = ["is_plain_order", "number_text", "sort_key"]

# ECMAScript, Number::toString: beyond 21 digits before the point, or 6 zeros after it, it writes an exponent.
MAX_WHOLE_DIGITS = 21
MAX_LEADING_ZEROS = 6

LAST_INDEX: Final = 2**32 - 2
"""The last "array index" of ECMAScript."""
MAX_INDEX_DIGITS: Final = 10


def number_text(value: float) -> str:
    """Write a finite float as `JSON.stringify` does: `1`, `0.000001`, `1e-7`, `1e+21`; both zeros are `0`."""
    if value == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    return ("-" if sign else "") + _positive("".join(map(str, digits)), len(digits) + int(exponent))


def _positive(digits: str, point: int) -> str:
    """Write `digits` with the decimal point after the first `point` of them. ECMAScript calls `point` n."""
    if 0 < point <= MAX_WHOLE_DIGITS:
        whole, rest = digits[:point].ljust(point, "0"), digits[point:]
        return f"{whole}.{rest}" if rest else whole
    if -MAX_LEADING_ZEROS < point <= 0:
        return "0." + "0" * -point + digits
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{mantissa}e{point - 1:+d}"


def sort_key(text: str) -> bytes:
    """Return a sort key that orders keys like a JavaScript object to which they were added in the order of `sort()`.

    Such an object lists array indices first, by value: `0` to `4294967294`, without leading zeros. The other keys
    follow by UTF-16 code units. Python sorts by code points. The two orders differ only if a character beyond U+FFFF is
    compared with one from U+E000 to U+FFFF.

    Raises:
        UnicodeEncodeError: The text holds half of a surrogate pair.
    """
    if len(text) <= MAX_INDEX_DIGITS and text.isdecimal() and text.isascii():
        index = int(text)
        if index <= LAST_INDEX and str(index) == text:
            return b"\0" + index.to_bytes(4, "big")
    return b"\1" + text.encode("utf-16-be")


def is_plain_order(keys: Collection[str]) -> bool:
    """Whether Python certainly orders the keys like JavaScript: all are ASCII, and none is an array index."""
    return "".join(keys).isascii() and not any(map(str.isdecimal, keys))
