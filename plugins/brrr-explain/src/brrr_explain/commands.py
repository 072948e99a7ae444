"""`brrr explain`, `brrr redrive` and `brrr forget`: show, redrive or delete a call and the calls below it."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from brrr_cli.api import (
    NO_OPTIONS,
    NO_URLS,
    ArgumentTokens,
    AsJson,
    CallOptions,
    Count,
    DurationOption,
    Urls,
    Verbose,
    load_handlers,
    named_call,
    note,
    write_json,
    write_line,
)
from brrr_core import Connection, Policy, connect
from brrr_core.app.catalogue import Catalogue
from brrr_core.errors import CommandError
from brrr_explain.drawing import COLOURS, DEPTH, SYMBOLS, WIDTH, Line, as_json, as_mermaid, as_svg, lines
from brrr_explain.explaining import NODES
from brrr_explain.explaining import explain as explain_call
from brrr_explain.forgetting import forget as forget_call
from brrr_explain.graph import PUT, Explanation, Problem
from brrr_explain.redriving import redrive as redrive_call

__all__ = ["explain", "forget", "redrive"]

MOST_PROBLEMS: Final = 20
"""The most problems that the text output lists."""

TaskName: TypeAlias = Annotated[str, Parameter(help="The name of the task.")]
OfTopic: TypeAlias = Annotated[
    str | None, Parameter(name="--topic", show_default=False, help="The topic of the call, if no record names it.")
]
ReplayAll: TypeAlias = Annotated[
    bool,
    Parameter(
        negative=(),
        show_default=False,
        help="Run all handlers that make calls, not only those with replay=True: they must have no other effects.",
    ),
]
Nodes: TypeAlias = Annotated[Count, Parameter(help="The most calls to read.")]
ToFile: TypeAlias = Annotated[Path | None, Parameter(show_default=False)]


async def explain(
    task: TaskName,
    /,
    *arguments: ArgumentTokens,
    options: CallOptions = NO_OPTIONS,
    topic: OfTopic = None,
    no_replay: Annotated[bool, Parameter(negative=(), show_default=False, help="Run no handler.")] = False,
    replay_all: ReplayAll = False,
    width: Annotated[Count, Parameter(help="The most children of one call to show.")] = WIDTH,
    depth: Annotated[Count, Parameter(help="The most levels to show.")] = DEPTH,
    nodes: Nodes = NODES,
    stale_after: Annotated[
        DurationOption | None,
        Parameter(show_default=False, help="Report calls that were put this long ago, and have no outcome."),
    ] = None,
    mermaid: Annotated[ToFile, Parameter(help="Write a Mermaid flowchart to this file.")] = None,
    svg: Annotated[ToFile, Parameter(help="Write an SVG drawing to this file.")] = None,
    urls: Urls = NO_URLS,
    as_json_: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show the state of a call and of all calls below it, and why they do not continue.

    It needs the functions: --handlers MODULE. Those with @brrr.handler(replay=True) run up to their first call without
    a value. Nothing is written to the backends, and functions that make no calls do not run.
    """
    del verbose  # `report` reads it from the command line
    named = named_call(task, arguments, options)
    policy = Policy(stale_after=stale_after)
    async with connect(urls.queue, urls.store, urls.cache, policy=policy) as connection:
        catalogue = _catalogue(connection, options)
        graph = await explain_call(
            catalogue, named.call, topic=topic, replay=not no_replay, replay_all=replay_all, limit=nodes
        )
    if mermaid is not None:
        mermaid.write_text(as_mermaid(graph, width=width, depth=depth), encoding="utf-8")
    if svg is not None:
        svg.write_text(as_svg(graph, width=width, depth=depth), encoding="utf-8")
    if as_json_:
        write_json(as_json(graph))
        return
    _write_tree(lines(graph, width=width, depth=depth))
    _write_problems(graph)
    unexplored = sum(node.is_unexplored and node.state in PUT for node in graph.nodes.values())
    if options.handlers is None:
        note("without --handlers, the calls below it are not known")
    elif unexplored:
        note(
            f"{unexplored:,} unfinished calls were not replayed, so the calls below them are not known: declare their "
            "handlers @brrr.handler(replay=True), or pass --replay-all"
        )


async def redrive(
    task: TaskName,
    /,
    *arguments: ArgumentTokens,
    options: CallOptions = NO_OPTIONS,
    topic: OfTopic = None,
    replay_all: ReplayAll = False,
    nodes: Nodes = NODES,
    urls: Urls = NO_URLS,
    as_json_: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Put a new message for a call, and for each call below it that no other call will wake: its message may be lost.

    It finds these calls as `brrr explain` does. Repeating it is safe. A dead letter stays until you drop it.
    """
    del verbose  # `report` reads it from the command line
    named = named_call(task, arguments, options)
    async with connect(urls.queue, urls.store, urls.cache) as connection:
        catalogue = _catalogue(connection, options)
        done = await redrive_call(catalogue, named.call, topic=topic, replay_all=replay_all, limit=nodes)
    if as_json_:
        write_json(
            {
                "put": [node.call_hash for node in done.put],
                "without_topic": [node.call_hash for node in done.without_topic],
                "unknown": [node.call_hash for node in done.unknown],
            }
        )
        return
    for node in done.put[:MOST_PROBLEMS]:
        write_line(f"put {node.task_name} {node.arguments} on {node.topic}: call {node.call_hash}")
    if len(done.put) > MOST_PROBLEMS:
        write_line(f"put {len(done.put) - MOST_PROBLEMS:,} more")
    if not done.put:
        write_line(f"{task} is {done.graph.root.state}: no call needs a message")
    if done.without_topic:
        note(f"the topic of {len(done.without_topic):,} calls is not known: name it with --topic")
    if done.unknown:
        note(f"the calls below {len(done.unknown):,} calls are not known, because their handlers were not replayed")


async def forget(
    task: TaskName,
    /,
    *arguments: ArgumentTokens,
    options: CallOptions = NO_OPTIONS,
    tree: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Forget all calls below it too. It needs --handlers.")
    ] = False,
    keep: Annotated[
        list[str],
        Parameter(
            help="A task or event whose calls are kept, with the calls below them. Repeat it for each task.",
            negative=(),
        ),
    ] = [],  # noqa: B006 - cyclopts reads the default, and it is never changed
    force: Annotated[
        bool,
        Parameter(
            negative=(),
            show_default=False,
            help="Also forget calls without an outcome, and calls that others wait for.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Print what would be forgotten, and delete nothing.")
    ] = False,
    replay_all: ReplayAll = False,
    nodes: Nodes = NODES,
    urls: Urls = NO_URLS,
    as_json_: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Delete a call and its outcome. If it is called again, it is computed again.

    Calls without an outcome, and calls that others wait for, are kept, with the calls below them. brrr does not record
    which finished calls share a finished call: name the tasks of such calls with --keep. Repeating it is safe.
    """
    del verbose  # `report` reads it from the command line
    named = named_call(task, arguments, options)
    if tree and options.handlers is None:
        raise CommandError("the calls below a call are found by its handlers", remedy="Name them: --handlers MODULE.")
    async with connect(urls.queue, urls.store, urls.cache) as connection:
        catalogue = _catalogue(connection, options)
        done = await forget_call(
            catalogue,
            named.call,
            tree=tree,
            keep=keep,
            force=force,
            replay_all=replay_all,
            limit=nodes,
            dry_run=dry_run,
        )
    forgotten = [node.call_hash for node in done.forgotten]
    if as_json_:
        unknown = [node.call_hash for node in done.unknown]
        write_json({"forgotten": forgotten, "kept": done.kept, "unknown": unknown, "dry_run": dry_run})
        return
    write_line(f"{'would forget' if dry_run else 'forgot'} {len(forgotten):,} calls, and kept {len(done.kept):,}")
    for call_hash, why in list(done.kept.items())[:MOST_PROBLEMS]:
        node = done.graph.nodes[call_hash]
        write_line(f"kept {node.task_name} {node.arguments}: {why}")
    if tree and done.unknown:
        note(f"the calls below {len(done.unknown):,} calls are not known, and stay: their handlers were not replayed")


def _catalogue(connection: Connection, options: CallOptions) -> Catalogue:
    tasks = {} if options.handlers is None else load_handlers(options.handlers)
    return Catalogue(tasks, options.codec, connection, closed=False)


def _write_tree(rows: Iterable[Line]) -> None:
    console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 10**4
    trees: list[Tree] = []
    for row in rows:
        words = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in row.text)
        text = Text(words if row.node is None else f"{SYMBOLS[row.node.state]} {words}")
        if row.node is not None:
            text.stylize(COLOURS[row.node.state])
        level = len(row.path)
        del trees[level:]
        trees.append(trees[-1].add(text) if trees else Tree(text))
    with console.capture() as captured:  # rich itself would end the process if the output is closed
        console.print(trees[0])
    for line in captured.get().splitlines():
        sys.stdout.write(f"{line.rstrip()}\n")


def _write_problems(graph: Explanation) -> None:
    problems: dict[Problem, list[str]] = {}
    for node in graph.problems:
        assert node.problem is not None  # noqa: S101 - `problems` has only such nodes
        problems.setdefault(node.problem, []).append(f"{node.task_name} {node.arguments}".rstrip())
    for number, (problem, names) in enumerate(problems.items()):
        if number == MOST_PROBLEMS:
            write_line(f"\nand {len(problems) - number:,} other problems")
            break
        more = f" and {len(names) - 1:,} others" if len(names) > 1 else ""
        write_line(f"\n{names[0]}{more}: {problem.what}.\n  {problem.remedy}.")
