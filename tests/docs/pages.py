"""The Markdown pages of the project, and the fenced blocks in them.

A block ```` ```python ```` is run; a block ```` ```text ```` right after one is what it prints. A comment that begins
with `<!-- python` holds code that runs and is not shown: what a reader has and the page need not repeat.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("plugins/*/README.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$|^<!-- (python)\n(.*?)^-->$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: What stands after the fence.
        text: What it holds.
        line: The number of lines of the page above its text.
    """

    language: str
    text: str
    line: int


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page, in their order."""
    for match in BLOCK.finditer(page):
        shown = match[1] is not None
        start = match.start(2 if shown else 4)
        yield Block(match[1] or match[3], match[2] if shown else match[4], page.count("\n", 0, start))


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))
