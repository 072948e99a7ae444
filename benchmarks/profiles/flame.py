"""Flame graphs as SVG: a box for each function, as wide as its share of the CPU, below the functions that it calls."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

from benchmarks.profiles.parts import part_of
from benchmarks.profiles.sampling import Call, Stacks

__all__ = ["flame_graph"]

WIDTH: Final = 1_200
ROW: Final = 17
LEAST: Final = 0.004
"""Share of the narrowest box. Narrower ones are left out, which keeps the file small."""
LETTER: Final = 6.2
"""Width of a letter in pixels."""
LOOP: Final = "asyncio"
TURN: Final = ("BaseEventLoop._run_once", "Handle._run")
COLOURS: Final = {
    "event loop": "#c9d1d9",
    "engine": "#79b8ff",
    "batching": "#b392f0",
    "encoding": "#85e89d",
    "handlers": "#ffdf5d",
    "backend": "#ffab70",
    "client": "#f97583",
    None: "#e1e4e8",
}


@dataclass(slots=True)
class _Box:
    spent: int = 0
    inner: dict[Call, "_Box"] = field(default_factory=dict[Call, "_Box"])


def flame_graph(stacks: Stacks, title: str) -> str:
    """Return an SVG document of the stacks. The loop's own functions are one box at the bottom."""
    root = _Box()
    for stack, spent in stacks.items():
        box = root
        box.spent += spent
        for call in _without_runner(stack):
            box = box.inner.setdefault(call, _Box())
            box.spent += spent
    boxes = list(_boxes(root, (), 0, root.spent * LEAST))
    height = (max((len(stack) for stack, _, _ in boxes), default=0) + 2) * ROW
    parts = [_drawn(stack, start, box, root.spent, height) for stack, start, box in boxes]
    size = f'width="{WIDTH}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" style="background:#fff">'
    style = "<style>text{font:11px monospace;fill:#24292f}rect{stroke:#fff;stroke-width:.5}</style>"
    legend = "".join(
        f'<rect x="{index * 110 + 400}" y="2" width="11" height="11" fill="{COLOURS[part]}"/>'
        f'<text x="{index * 110 + 415}" y="12">{part}</text>'
        for index, part in enumerate(filter(None, COLOURS))
    )
    return f'{head}{style}<text x="2" y="12">{escape(title)}</text>{legend}\n' + "\n".join(parts) + "\n</svg>\n"


def _without_runner(stack: Sequence[Call]) -> Sequence[Call]:
    """Return the stack with one call in place of all that lead to the loop's turn or to a callback of it."""
    turns = [index for index, call in enumerate(stack) if call.module.startswith(LOOP) and call.function in TURN]
    return (Call(LOOP, "loop"), *stack[turns[-1] + 1 :]) if turns else stack


def _boxes(box: _Box, stack: tuple[Call, ...], start: int, least: float) -> "list[tuple[tuple[Call, ...], int, _Box]]":
    found = [(stack, start, box)] if stack else []
    for call, inner in sorted(box.inner.items()):
        if inner.spent >= least:
            found += _boxes(inner, (*stack, call), start, least)
        start += inner.spent
    return found


def _drawn(stack: Sequence[Call], start: int, box: _Box, total: int, height: int) -> str:
    left, width, top = WIDTH * start / total, WIDTH * box.spent / total, height - len(stack) * ROW
    module, function = stack[-1]
    name = f"{module.removeprefix('brrr_core.')}:{function}"
    short = function.removesuffix(".<locals>")[: max(0, int(width / LETTER) - 1)]
    label = f'<text x="{left + 2:.1f}" y="{top + 12}">{escape(short)}</text>' if len(short) > 2 else ""
    return (
        f'<g><title>{escape(name)} {box.spent / total:.1%}</title><rect x="{left:.1f}" y="{top}" '
        f'width="{width:.1f}" height="{ROW - 1}" fill="{COLOURS[part_of(stack)]}"/>{label}</g>'
    )
