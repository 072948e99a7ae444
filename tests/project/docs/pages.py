"""The Markdown pages of the project, and the fenced blocks in them.

A ```` ```python ```` block runs; a ```` ```text ```` block right after it is its expected output. A comment that begins
with `<!-- python` contains hidden code that runs too.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("plugins/*/README.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$|^<!-- (python)\n(.*?)^-->$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: The word after the fence.
        text: The content.
        line: The number of lines above the content in the page.
    """

    language: str
    text: str
    line: int


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page in order."""
    for match in BLOCK.finditer(page):
        shown = match[1] is not None
        start = match.start(2 if shown else 4)
        yield Block(match[1] or match[3], match[2] if shown else match[4], page.count("\n", 0, start))


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))
