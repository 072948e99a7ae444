"""Bar charts as SVG: one panel for each case, one bar for each engine. They are legible on light and dark pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

__all__ = ["NONE", "Bar", "Panel", "chart"]

NONE: Final = "\N{EN DASH}"
"""In place of a figure."""

COLUMNS: Final = 3
WIDTH: Final = 300
"""Width of a panel in pixels."""
ROW: Final = 17
NAMES: Final = 104
"""Width of the names of the bars."""
VALUES: Final = 52
STYLE: Final = """
text { font-family: system-ui, sans-serif; font-size: 12px; fill: #24292f; }
.title { font-weight: 600; font-size: 13px; }
.brrr { fill: #0969da; } .queue { fill: #8c959f; } .durable { fill: #bf8700; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .brrr { fill: #4493f8; } .queue { fill: #7d8590; } .durable { fill: #d29922; }
}
"""
KINDS: Final = {"brrr": "brrr", "queue": "task queues", "durable": "durable execution"}


@dataclass(frozen=True, slots=True)
class Bar:
    """One engine.

    Attributes:
        name: Its name.
        kind: Its kind, which gives the colour.
        value: Its figure; None if there is none.
    """

    name: str
    kind: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Panel:
    """One case with its bars. The longest bar fills the panel."""

    title: str
    bars: Sequence[Bar]


def chart(panels: Sequence[Panel], description: str) -> str:
    """Return an SVG document with a grid of panels."""
    height = max(len(panel.bars) for panel in panels) * ROW + 40
    rows = -(-len(panels) // COLUMNS)
    parts = [_panel(panel, index % COLUMNS * WIDTH, index // COLUMNS * height) for index, panel in enumerate(panels)]
    size = f'width="{COLUMNS * WIDTH}" height="{rows * height + 24}"'
    legend = "".join(_legend(kind, index, rows * height + 8) for index, kind in enumerate(KINDS))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(description)}">'
    return f"{head}\n<style>{STYLE}</style>\n{''.join(parts)}{legend}</svg>\n"


def _panel(panel: Panel, left: int, top: int) -> str:
    longest = max((bar.value or 0 for bar in panel.bars), default=0) or 1
    parts = [f'<text class="title" x="{left}" y="{top + 16}">{escape(panel.title)}</text>\n']
    for index, bar in enumerate(panel.bars):
        y = top + 26 + index * ROW
        parts.append(f'<text x="{left}" y="{y + 12}">{escape(bar.name)}</text>')
        length = (bar.value or 0) / longest * (WIDTH - NAMES - VALUES)
        parts.append(
            f'<rect class="{bar.kind}" x="{left + NAMES}" y="{y + 2}" width="{length:.1f}" height="{ROW - 5}"/>'
        )
        shown = NONE if bar.value is None else f"{bar.value:,.0f}" if bar.value >= 10 else f"{bar.value:.1f}"
        parts.append(f'<text x="{left + NAMES + length + 4:.1f}" y="{y + 12}">{shown}</text>\n')
    return "".join(parts)


def _legend(kind: str, index: int, top: int) -> str:
    left = index * 160
    square = f'<rect class="{kind}" x="{left}" y="{top}" width="12" height="12"/>'
    return f'{square}<text x="{left + 18}" y="{top + 11}">{KINDS[kind]}</text>\n'
