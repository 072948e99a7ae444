"""Templates, and the texts that they show: masked, bounded and printable."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from brrr_core.safe_text import Mask, shown_bytes

__all__ = ["Templates", "Texts", "sparkline"]

LONGEST: Final = 20_000
"""The most characters of a text on a page."""

IN_A_ROW: Final = 200
"""The most characters of a text in a row of a table."""

WIDTH: Final = 120
HEIGHT: Final = 24


class Texts:
    """Texts of others on a page. Escaping is the task of the templates.

    Args:
        mask: Replaces the secrets of the backends.
    """

    def __init__(self, mask: Mask) -> None:
        self._mask = mask

    def whole(self, text: str) -> str:
        """Return a text for a block of its own."""
        masked = self._mask(text)  # before the cut, which could leave a part of a secret
        return masked if len(masked) <= LONGEST else f"{masked[:LONGEST]}…"

    def row(self, text: str) -> str:
        """Return the first line of a text for a row of a table."""
        line = self._mask(text.partition("\n")[0])
        return line if len(line) <= IN_A_ROW else f"{line[:IN_A_ROW]}…"

    def data(self, data: bytes) -> str:
        """Return encoded arguments or an encoded result: text if they are printable, else base64."""
        return self.whole(shown_bytes(data))


class Templates:
    """The templates. They escape every value, and a name without a value is an error."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader("brrr_board"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def get(self, name: str) -> Template:
        """Return a template."""
        return self._environment.get_template(name, globals={"clock": _clock, "grouped": _grouped})


def sparkline(values: Sequence[int]) -> str:
    """Return the points of a polyline for values over time, the latest at the right. Its scale begins at 0.

    Values that are all equal have the same two points however many they are, so that the drawing does not change.
    """
    top = max(values, default=0) or 1
    if min(values, default=0) == max(values, default=0):
        height = HEIGHT - 1 if not values or not values[0] else 1
        return f"0,{height} {WIDTH},{height}"
    step = WIDTH / (len(values) - 1)
    return " ".join(f"{n * step:.1f},{1 + (HEIGHT - 2) * (1 - value / top):.1f}" for n, value in enumerate(values))


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _grouped(number: int) -> str:
    return f"{number:,}"
