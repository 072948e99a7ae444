"""Templates, and the texts that they show: masked, bounded and printable."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from brrr_core.backend import QueueStats
from brrr_core.safe_text import Mask, shown_bytes

__all__ = ["Templates", "Texts", "sparkline", "topic_row"]

TEXT_LIMIT: Final = 20_000
"""The most characters of a text on a page."""

ROW_TEXT_LIMIT: Final = 200
"""The most characters of a text in a row of a table."""

SPARKLINE_WIDTH: Final = 120
SPARKLINE_BOTTOM: Final = 23
"""The size of a sparkline in pixels. Its box is one pixel higher."""

SPARK: Final = (
    '<td><svg class="spark" width="120" height="24" viewBox="0 0 120 24" role="img" aria-label="Depth in the last '
    'minutes"><polyline fill="none" stroke="#1565c0" stroke-width="1.5" points="'
)
END: Final = '"/></svg></td>'
NUMBER: Final = '<td class="number">'
DEAD: Final = '<td class="number dead">'


class Texts:
    """Masks and shortens texts for a page. The templates escape them.

    Args:
        mask: Replaces the secrets of the backends.
    """

    def __init__(self, mask: Mask) -> None:
        self._mask = mask

    def whole(self, text: str) -> str:
        """Return a text for a separate block."""
        masked = self._mask(text)  # before it is cut: a cut secret would not be found
        return masked if len(masked) <= TEXT_LIMIT else f"{masked[:TEXT_LIMIT]}…"

    def row(self, text: str) -> str:
        """Return the first line of a text for a row of a table."""
        line = self._mask(text.partition("\n")[0])
        return line if len(line) <= ROW_TEXT_LIMIT else f"{line[:ROW_TEXT_LIMIT]}…"

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
        for name in self._environment.list_templates():
            self.get(name)  # compiled before the first page

    def get(self, name: str) -> Template:
        """Return a template."""
        return self._environment.get_template(name, globals={"clock": _clock, "grouped": _grouped})


def topic_row(topic: str, name: str, stats: QueueStats, depths: Sequence[int]) -> Markup:
    """Return the row of a topic. A template takes ten times as long, and a page has a thousand rows.

    Args:
        topic: The topic.
        name: The name of the element.
        stats: The messages of the topic.
        depths: Its depths over time.
    """
    shown, address = escape(topic), quote(topic, safe="")
    return Markup(  # noqa: S704 - both texts are escaped, and the rest are numbers
        f'<tr id="topic-{name}"><td><a href="topic?name={address}">{shown}</a></td>{SPARK}{sparkline(depths)}{END}'
        f"{NUMBER}{stats.ready:,}</td>{NUMBER}{stats.leased:,}</td>{NUMBER}{stats.delayed:,}</td>"
        f"{DEAD if stats.dead else NUMBER}{stats.dead:,}</td></tr>"
    )


def sparkline(depths: Sequence[int]) -> str:
    """Return the points of a polyline for values over time, the latest at the right. Its scale begins at 0.

    Equal values always give the same two points, so that the drawing does not change with their number.
    """
    top = max(depths, default=0)
    if min(depths, default=0) == top:
        height = 1 if top else SPARKLINE_BOTTOM
        return f"0,{height} {SPARKLINE_WIDTH},{height}"
    scale = (SPARKLINE_BOTTOM - 1) / top
    return " ".join(
        [
            f"{x}{SPARKLINE_BOTTOM - int(scale * depth)}"
            for x, depth in zip(_x_positions(len(depths)), depths, strict=True)
        ]
    )


@cache
def _x_positions(count: int) -> list[str]:
    return [f"{SPARKLINE_WIDTH * n // (count - 1)}," for n in range(count)]


def _clock(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OSError, OverflowError, ValueError):  # the year is out of range
        return f"unix time {seconds}"


def _grouped(number: int) -> str:
    return f"{number:,}"
