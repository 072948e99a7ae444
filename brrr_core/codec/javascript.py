"""How JavaScript writes numbers and sorts texts, where Python does otherwise."""

from decimal import Decimal

__all__ = ["number_text", "sort_key"]

# ECMAScript, Number::toString: up to 21 digits before the point, and up to 6 zeros behind it, are written out.
MOST_WHOLE_DIGITS = 21
MOST_LEADING_ZEROS = 6


def number_text(value: float) -> str:
    """A finite float as `JSON.stringify` writes it: `1`, `0.000001`, `1e-7`, `1e+21`; both zeros are `0`."""
    if value == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    return ("-" if sign else "") + _positive("".join(map(str, digits)), len(digits) + int(exponent))


def _positive(digits: str, point: int) -> str:
    """`digits` with the decimal point after the first `point` of them, which the standard calls n."""
    if 0 < point <= MOST_WHOLE_DIGITS:
        whole, rest = digits[:point].ljust(point, "0"), digits[point:]
        return f"{whole}.{rest}" if rest else whole
    if -MOST_LEADING_ZEROS < point <= 0:
        return "0." + "0" * -point + digits
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{mantissa}e{point - 1:+d}"


def sort_key(text: str) -> bytes:
    """Sorts as JavaScript's `sort()` does, by UTF-16 code units.

    Python sorts by code points. The two differ only where a character beyond U+FFFF meets one of U+E000 to U+FFFF.

    Raises:
        UnicodeEncodeError: The text holds half of a surrogate pair.
    """
    return text.encode("utf-16-be")
