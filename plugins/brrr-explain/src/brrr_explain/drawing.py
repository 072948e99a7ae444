"""Draw a graph of calls: as lines of a tree, as JSON, as a Mermaid flowchart, and as SVG.

A call with many children shows those with problems first, and summarizes the rest. A call with several callers is
drawn once.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Final, NamedTuple

from brrr_explain.graph import Explanation, Node, State

__all__ = ["DEPTH", "WIDTH", "Line", "as_json", "as_mermaid", "as_svg", "describe", "lines"]

WIDTH: Final = 10
"""The most children of one call that are drawn, by default."""

DEPTH: Final = 20
"""The most levels that are drawn, by default."""

ARGUMENTS_LIMIT: Final = 60
"""The most characters of arguments in a drawing."""

COLOURS: Final = {
    State.DONE: "#2e7d32",
    State.FAILED: "#c62828",
    State.EXPIRED: "#ad6800",
    State.DEAD: "#c62828",
    State.RETRYING: "#ad6800",
    State.QUEUED: "#1565c0",
    State.WAITING: "#6a1b9a",
    State.SLEEPING: "#00838f",
    State.AWAITED: "#ad6800",
    State.ABSENT: "#616161",
}

SYMBOLS: Final = {
    State.DONE: "✓",
    State.FAILED: "✗",
    State.EXPIRED: "✗",
    State.DEAD: "☠",
    State.RETRYING: "↻",
    State.QUEUED: "▶",
    State.WAITING: "…",
    State.SLEEPING: "⏾",
    State.AWAITED: "?",
    State.ABSENT: "·",
}

URGENCY: Final = {
    State.DEAD: 0,
    State.FAILED: 1,
    State.RETRYING: 2,
    State.AWAITED: 3,
    State.WAITING: 4,
    State.QUEUED: 5,
    State.SLEEPING: 6,
    State.ABSENT: 7,
    State.EXPIRED: 8,
    State.DONE: 9,
}


class Line(NamedTuple):
    """One line of a tree.

    Attributes:
        node: The node; None for a line that summarizes other nodes.
        text: The text.
        path: For each level down to this one, whether it is the last of its siblings.
        parent: The node above.
        again: Whether the node is drawn in full on another line.
    """

    node: Node | None
    text: str
    path: tuple[bool, ...]
    parent: Node | None = None
    again: bool = False


def lines(graph: Explanation, *, width: int = WIDTH, depth: int = DEPTH) -> Iterator[Line]:
    """Yield the lines of a tree, from the root down.

    Args:
        graph: The graph.
        width: The most children of one call that are drawn.
        depth: The most levels that are drawn.
    """
    drawn: set[str] = set()
    troubled = _troubled(graph)
    stack = [Line(graph.root, describe(graph.root, graph), ())]
    while stack:
        line = stack.pop()
        node = line.node
        if node is None:
            yield line
            continue
        children = sorted(graph.children(node), key=lambda each: (each.call_hash not in troubled, URGENCY[each.state]))
        if node.call_hash in drawn and children:
            yield line._replace(text=f"{line.text} (drawn above)", again=True)
            continue
        yield line
        drawn.add(node.call_hash)
        below: list[Line] = []
        shown = children[:width] if len(line.path) < depth else []
        for number, child in enumerate(shown, 1):
            last = number == len(children)
            below.append(Line(child, describe(child, graph), (*line.path, last), node))
        if rest := children[len(shown) :]:
            below.append(Line(None, _summary(rest, len(shown)), (*line.path, True), node))
        stack.extend(reversed(below))
    if graph.unexplored:
        yield Line(None, f"{graph.unexplored:,} unfinished calls were not read", (True,), graph.root)


def describe(node: Node, graph: Explanation) -> str:
    """Return a node in words: its task, its arguments, its state and the reason."""
    arguments = node.arguments if len(node.arguments) <= ARGUMENTS_LIMIT else f"{node.arguments[:ARGUMENTS_LIMIT]}…"
    name = "sleep" if node.kind == "sleep" else f"{node.task_name} {arguments}".rstrip()
    return f"{f'event {name}' if node.kind == 'event' else name}: {_state(node, graph)}"


def _state(node: Node, graph: Explanation) -> str:
    match node.state:
        case State.FAILED | State.DEAD:
            attempt = f" in delivery {node.attempt}" if node.attempt else ""
            return f"{node.state}{attempt}: {node.reason}"
        case State.RETRYING:
            return f"attempt {node.attempt} failed, and the next one is due at {_clock(node.until)}: {node.reason}"
        case State.WAITING:
            missing = graph.waits_for(node)
            more = f" of {len(node.children)}" if len(node.children) > len(missing) else ""
            calls = "call" if len(missing) == 1 and not more else "calls"
            return f"waiting for {len(missing)}{more} {calls}" if missing else f"waiting: {node.reason}"
        case State.SLEEPING:
            return f"sleeping until {_clock(node.until)}"
        case State.AWAITED:
            return "has not happened" + ("" if node.until is None else f", deadline {_clock(node.until)}")
        case State.QUEUED:
            since = "" if node.since is None else f" since {_clock(node.since)}"
            if node.is_unexplored:  # it may wait for calls that are not known
                return f"scheduled{since}, and not replayed: {node.not_replayed}"
            return f"queued on {node.topic or 'its topic'}{since}" + (f"; {node.outlook}" if node.outlook else "")
        case _:
            return str(node.state)


def _clock(at: float | None) -> str:
    try:
        return "?" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    except (OSError, OverflowError, ValueError):  # the year is out of range
        return f"unix time {at}"


def _troubled(graph: Explanation) -> set[str]:
    """Return the call hashes of the nodes with a problem, and of all nodes above them."""
    callers: dict[str, list[str]] = {}
    for node in graph.nodes.values():
        for call_hash in node.children:
            callers.setdefault(call_hash, []).append(node.call_hash)
    troubled: set[str] = set()
    left = [node.call_hash for node in graph.problems]
    while left:
        call_hash = left.pop()
        if call_hash not in troubled:
            troubled.add(call_hash)
            left.extend(callers.get(call_hash, ()))
    return troubled


def _summary(rest: Sequence[Node], shown: int) -> str:
    counts: dict[State, int] = {}
    for node in rest:
        counts[node.state] = counts.get(node.state, 0) + 1
    more = " more" if shown else " calls below"
    return f"{len(rest):,}{more}: {', '.join(f'{count:,} {state}' for state, count in counts.items())}"


def as_json(graph: Explanation) -> dict[str, object]:
    """Return the graph as JSON values: all nodes, cycles, topics and problems."""
    return {
        "root": graph.root.call_hash,
        "at": graph.at,
        "unexplored": graph.unexplored,
        "states": {str(state): count for state, count in graph.counts().items()},
        "cycles": [[node.call_hash for node in cycle] for cycle in graph.cycles],
        "topics": {topic: stats._asdict() for topic, stats in graph.topics.items()},
        "nodes": [_node_as_json(node) for node in graph.nodes.values()],
    }


def _node_as_json(node: Node) -> dict[str, object]:
    fields = {name: getattr(node, name) for name in Node.__slots__}
    fields["problem"] = None if node.problem is None else node.problem._asdict()
    fields["state"] = str(node.state)
    return fields


def as_mermaid(graph: Explanation, *, width: int = WIDTH, depth: int = DEPTH) -> str:
    """Return the graph as a Mermaid flowchart."""
    names: dict[str, str] = {}
    rows = ["flowchart LR"]
    for number, line in enumerate(lines(graph, width=width, depth=depth)):
        above = None if line.parent is None else names[line.parent.call_hash]
        if line.node is not None and line.node.call_hash in names:
            name = names[line.node.call_hash]
        else:
            name = f"n{number}"
            style = "" if line.node is None else f":::{line.node.state.name.lower()}"
            rows.append(f'  {name}["{_for_mermaid(line.text)}"]{style}')
            if line.node is not None:
                names[line.node.call_hash] = name
        if above is not None:
            rows.append(f"  {above} --> {name}")
    rows += [f"  classDef {state.name.lower()} stroke:{colour}" for state, colour in COLOURS.items()]
    return "\n".join(rows) + "\n"


def _for_mermaid(text: str) -> str:
    """Return a label in which no character has a meaning for Mermaid."""
    return "".join(each if each.isalnum() or each in " .,_-:/()" else f"#{ord(each)};" for each in text)


ROW_HEIGHT: Final = 24
INDENT: Final = 22
CHARACTER_WIDTH: Final = 7.5
"""Sizes of the SVG drawing, in pixels."""


def as_svg(
    graph: Explanation, *, width: int = WIDTH, depth: int = DEPTH, link: Callable[[Node], str] | None = None
) -> str:
    """Return the graph as an SVG drawing: a tree with one row for each line. It contains no script.

    Each row is a group with the class `row` and its level, and draws its own part of the edges. So a script of the page
    can fold a node: hide the rows below it, and move the others up.

    Args:
        graph: The graph.
        width: The most children of one call that are drawn.
        depth: The most levels that are drawn.
        link: Returns the URL to which the text of a node links.
    """
    rows = list(lines(graph, width=width, depth=depth))
    wide = int(max(len(row.text) * CHARACTER_WIDTH + len(row.path) * INDENT for row in rows)) + 60
    high = len(rows) * ROW_HEIGHT + 16
    box = f'width="{wide}" height="{high}" viewBox="0 0 {wide} {high}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="ui-monospace, monospace" font-size="13">']
    for number, row in enumerate(rows):
        x = len(row.path) * INDENT + 14
        colour = "#616161" if row.node is None else COLOURS[row.node.state]
        problem = None if row.node is None else row.node.problem
        title = "" if problem is None else f"<title>{_for_xml(f'{problem.what}. {problem.remedy}')}</title>"
        weight = "" if problem is None else ' font-weight="bold"'
        text = f'<text x="{x + 12}" y="20">{_for_xml(row.text)}</text>'
        if link is not None and row.node is not None:
            text = f'<a href="{_for_xml(link(row.node))}">{text}</a>'
        name = "" if row.node is None or row.again else f' data-call="{_for_xml(row.node.call_hash)}"'
        parts.append(
            f'<g class="row" data-level="{len(row.path)}"{name} transform="translate(0 {number * ROW_HEIGHT})" '
            f'fill="{colour}"{weight}>{title}{_edges(row.path)}<circle cx="{x}" cy="16" r="5"/>{text}</g>'
        )
    return "\n".join([*parts, "</svg>\n"])


def _edges(path: Sequence[bool]) -> str:
    """Return the edges that pass through a row, and the one that ends there."""
    if not path:
        return ""
    passing = [f"M {level * INDENT + 14} 0 V {ROW_HEIGHT}" for level, last in enumerate(path[:-1]) if not last]
    x = (len(path) - 1) * INDENT + 14
    down = "" if path[-1] else f" M {x} 16 V {ROW_HEIGHT}"
    drawn = " ".join([*passing, f"M {x} 0 V 16 H {x + INDENT - 8}{down}"])
    return f'<path d="{drawn}" fill="none" stroke="#9e9e9e" stroke-width="1"/>'


def _for_xml(text: str) -> str:
    return escape("".join(each if each.isprintable() else "�" for each in text))
