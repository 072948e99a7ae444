"""The pages. Each has a fixed frame, and parts that change while it is open."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from markupsafe import Markup
from starlette.datastructures import QueryParams

from brrr_board.calls import CallReader
from brrr_board.read_cache import ReadCache
from brrr_board.rendering import Templates, Texts, sparkline, topic_row
from brrr_board.sampling import Sampler
from brrr_core import AppConsumer, Letter
from brrr_core.backend import Queue
from brrr_core.errors import ArgumentError, NotFoundError
from brrr_explain import Node, as_svg

__all__ = ["View", "Views"]

TOPICS_ON_PAGE: Final = 1_000
"""The most topics on a page."""

LETTERS_ON_PAGE: Final = 100
"""The most dead letters on a page."""

LISTED: Final = 20
"""The most problems of a graph, and the most waiting calls, that are listed."""

MESSAGES: Final = {
    "redriven": "The dead letter was put back on its topic.",
    "all-redriven": "The dead letters were put back on their topic.",
    "dropped": "The dead letter was dropped.",
    "completed": "The call has its result, and the dead letter was dropped.",
    "kept": "Nothing was done: the call failed for good before, or its record cannot be read.",
    "gone": "Nothing was done: the dead letter is gone.",
}
"""The sentence that a page shows after each action."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A page as it is now.

    Attributes:
        template: The frame.
        title: The title.
        values: The values of the frame. They do not change while the page is open.
        parts: The parts that may change, as HTML by the id of their element.
        rows: The rows of the page's table in their order, as HTML by id.
        live: Whether the parts and rows may change while the page is open.
        topic: The topic on which the buttons of the page act.
    """

    template: str
    title: str
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    parts: Mapping[str, Markup] = field(default_factory=dict[str, Markup])
    rows: Mapping[str, Markup] = field(default_factory=dict[str, Markup])
    live: bool = False
    topic: str | None = None


class Choice(NamedTuple):
    """Dead letters of one topic; an empty text chooses all."""

    topic: str
    task: str
    reason: str
    call_hash: str


class Views:
    """Makes the pages.

    Args:
        client: A client.
        queue: Its queue.
        sampler: The samples of the topics.
        calls: Reads calls.
        texts: Masks the texts that pages show.
        allow_changes: Whether the pages have buttons.
    """

    def __init__(
        self,
        client: AppConsumer,
        queue: Queue,
        sampler: Sampler,
        calls: CallReader,
        texts: Texts,
        *,
        allow_changes: bool,
    ) -> None:
        self._client = client
        self._queue = queue
        self._sampler = sampler
        self._texts = texts
        self._allow_changes = allow_changes
        self._letters = ReadCache(self._read_letters)
        self._calls = ReadCache(calls.read)
        self._templates = Templates()
        self._macros: Any = self._templates.get("parts.html").module
        self._rows: dict[str, Markup] = {}
        self._rows_of = 0

    def render(self, view: View, **frame: object) -> str:
        """Return the whole page of a view. `frame` has the values that depend on the request."""
        template = self._templates.get(view.template)
        return template.render(view=view, allow_changes=self._allow_changes, **view.values, **frame)

    def forget(self) -> None:
        """Discard all cached data, because an operator has changed something."""
        self._letters.forget()
        self._calls.forget()

    async def topics(self, query: QueryParams) -> View:
        """Show the topics whose names contain `q`, in alphabetical order."""
        await self._sampler.after(0)
        wanted = query.get("q", "")
        names = sorted(topic for topic in self._sampler.samples if wanted in topic)
        last = {topic: self._sampler.samples[topic].stats for topic in names}
        summary = self._macros.topics_summary(
            len(names),
            sum(stats.dead for stats in last.values()),
            [topic for topic in names if last[topic].dead][:LISTED],
            self._failure(),
            max(0, len(names) - TOPICS_ON_PAGE),
        )
        return View(
            template="topics.html",
            title="Topics",
            values={"q": wanted},
            parts={"summary": summary},
            rows={f"topic-{_element_name(topic)}": self._topic_row(topic) for topic in names[:TOPICS_ON_PAGE]},
            live=True,
        )

    async def topic(self, query: QueryParams) -> View:
        """Show a topic, and its oldest dead letters: those of a task, of a call, or with a text in their reason."""
        choice = Choice(_required(query, "name"), query.get("task", ""), query.get("reason", ""), query.get("hash", ""))
        await self._sampler.after(0)
        letters = await self._letters.get(choice)
        samples = self._sampler.samples.get(choice.topic)
        stats = samples.stats if samples else await self._queue.stats(choice.topic)
        summary = self._macros.topic_summary(
            stats,
            sparkline(samples.depths if samples else ()),
            self._failure(),
            len(letters) > LETTERS_ON_PAGE,
            samples is not None,
        )
        return View(
            template="topic.html",
            title=choice.topic,
            values={"choice": choice, "did": MESSAGES.get(query.get("did", ""))},
            parts={"summary": summary},
            rows={
                f"letter-{name}": self._letter_row(name, letter)
                for name, letter in _with_row_names(letters[:LETTERS_ON_PAGE])
            },
            live=True,
            topic=choice.topic,
        )

    async def letter(self, query: QueryParams) -> View:
        """Show one dead letter with its whole reason and body."""
        topic, number = _required(query, "topic"), _required(query, "id")
        letters = await self._client.dead_letters(topic, ids=[number]).read()
        if not letters:
            raise NotFoundError(
                f"the topic has no dead letter {number}", remedy="It was redriven or dropped. Reload the topic."
            )
        (letter,) = letters
        return View(
            template="letter.html",
            title="Dead letter",
            values={
                "letter": letter,
                "reason": self._texts.whole(letter.reason),
                "arguments": None if letter.payload is None else self._texts.data(letter.payload),
                "body": self._texts.data(letter.body),
            },
            topic=topic,
        )

    async def call(self, query: QueryParams) -> View:
        """Show a call and the graph below it."""
        call_hash = _required(query, "hash")
        status, graph = await self._calls.get(call_hash)
        parts = {
            "status": self._macros.call_status(
                status,
                None if status.payload is None else self._texts.data(status.payload),
                None if status.value is None else self._texts.data(status.value),
                None if status.reason is None else self._texts.whole(status.reason),
                LISTED,
            ),
            "problems": self._macros.call_problems(() if graph is None else graph.problems, LISTED),
            "graph": self._macros.call_graph(None if graph is None else Markup(as_svg(graph, link=_address))),  # noqa: S704 - `as_svg` escapes
        }
        return View(template="call.html", title=status.task_name or "Call", parts=parts, live=True)

    async def _read_letters(self, choice: Choice) -> Sequence[Letter]:
        chosen = self._client.dead_letters(
            choice.topic,
            task=choice.task or None,
            reason=choice.reason or None,
            call_hash=choice.call_hash or None,
            limit=LETTERS_ON_PAGE + 1,
        )
        return await chosen.read()

    def _topic_row(self, topic: str) -> Markup:
        """Return the row of a topic. All visitors share it until the next sample."""
        if self._rows_of != self._sampler.version:
            self._rows, self._rows_of = {}, self._sampler.version
        row = self._rows.get(topic)
        if row is None:
            stats, depths = self._sampler.samples[topic]
            row = self._rows[topic] = topic_row(topic, _element_name(topic), stats, depths)
        return row

    def _letter_row(self, name: str, letter: Letter) -> Markup:
        arguments = "" if letter.payload is None else self._texts.row(self._texts.data(letter.payload))
        row: Markup = self._macros.letter_row(
            name, letter, arguments, self._texts.row(letter.reason), self._allow_changes
        )
        return row

    def _failure(self) -> str | None:
        failure = self._sampler.failure
        return None if failure is None else self._texts.whole(str(failure))


def _with_row_names(letters: Sequence[Letter]) -> list[tuple[str, Letter]]:
    """Return each dead letter with a name for its row. Equal ones get a number."""
    names: dict[str, Letter] = {}
    for number, letter in enumerate(letters):
        name = _element_name(letter.id or f"{letter.buried_at} {letter.call_hash}")
        names[f"{name}-{number}" if name in names else name] = letter
    return list(names.items())


def _element_name(text: str) -> str:
    """Return a name for an element of a page."""
    return hashlib.blake2s(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def _address(node: Node) -> str:
    return f"call?hash={node.call_hash}"


def _required(query: QueryParams, name: str) -> str:
    found = query.get(name)
    if not found:
        raise ArgumentError(f"the address has no {name!r}", remedy="Follow a link of the board.")
    return found
