"""A README as the package index renders it, and the parts of it that readers there would miss."""

from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urlsplit

from readme_renderer import markdown

HIGHLIGHTED: Final = ("code", "pre", "span")
"""Elements that the highlighting of code replaces."""

UNSEEN: Final = ("aria-label", "class", "data-heading-content", "lang", "rel")
"""Attributes that the renderer itself adds or removes."""

ANCHOR: Final = "#user-content-"
"""The beginning that the index gives to links inside a page."""


def lost_parts(readme: str) -> Iterator[str]:
    """Return the parts of a README in GitHub's Markdown that the index drops, and the links that do not work there."""
    shown = markdown.render(readme)
    if shown is None:
        yield "the index cannot render it"
        return
    before, after = _Page(markdown.variants["GFM"](readme)), _Page(shown)
    for part in before.parts - after.parts:
        yield f"the index drops {part}"
    if "".join(before.texts) != "".join(after.texts):
        yield "the index drops some of its text"
    for link in after.links:
        if link.startswith("#"):
            if link.removeprefix("#") not in after.ids:
                yield f"the link #{link.removeprefix(ANCHOR)} leads to no heading"
        elif urlsplit(link).scheme not in ("https", "mailto"):
            yield f"the link {link} does not work on the index; begin it with https://"


class _Page(HTMLParser):
    """The elements, attributes, links and words of a page of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.parts: Counter[str] = Counter()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in HIGHLIGHTED:
            return
        self.parts[f"<{tag}>"] += 1
        for name, text in attrs:
            if name in UNSEEN:
                continue
            if name == "id":
                self.ids.add(text or "")
            if name in ("href", "src"):
                self.links.append(text or "")
            inside = name == "href" and (text or "").startswith("#")
            self.parts[f"{name} of <{tag}>" if inside else f'{name}="{text}" of <{tag}>'] += 1

    def handle_data(self, data: str) -> None:
        self.texts += data.split()
