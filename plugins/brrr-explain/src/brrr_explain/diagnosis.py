"""Find why calls do not continue: compare their records with the messages on their topics, and find cycles of calls."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Final, NamedTuple

from brrr_core import Connection
from brrr_core.backend import QueueStats
from brrr_core.engine.letters import message_in
from brrr_core.engine.policy import RETURNS_LIMIT
from brrr_core.wire import Buried, FailedAttempt, PendingReturns
from brrr_explain.graph import PUT, Node, Problem, State

__all__ = ["Records", "diagnose", "find_cycles"]

DEAD_LETTERS_READ: Final = 1_000
"""The most dead letters of a topic that are read."""

RECHECK_SECONDS: Final = 1.0
"""Seconds until an idle topic is checked again: a call that only changed hands has moved on by then."""

LATE_TIMER_SECONDS: Final = 5.0
"""Seconds by which a timer may be late."""


class Records(NamedTuple):
    """The records of a call without an outcome.

    Attributes:
        pending: Its pending record; empty if it has none.
        note: The note of the dead letter that keeps it from its outcome.
        known: Whether its call record exists. A program writes it before it puts the message.
        state: The record of its state.
        failed: Its last attempt, if that failed and another one is due.
    """

    pending: PendingReturns
    note: Buried | None
    known: bool
    state: bytes | None
    failed: FailedAttempt | None


async def diagnose(
    connection: Connection,
    nodes: Mapping[str, Node],
    records: Mapping[str, Records],
    *,
    refresh: Callable[[Sequence[Node]], Awaitable[None]],
) -> tuple[dict[str, QueueStats], set[str]]:
    """Set the problem of each node that does not continue by itself.

    Args:
        connection: The connection. Its queue is only read.
        nodes: The nodes of the graph, by call hash.
        records: The records of those without an outcome.
        refresh: Reads the records of some nodes again.

    Returns:
        The counts of their topics, and the call hashes of the calls that only a message can continue.

    Raises:
        BackendError: The queue or the store failed.
    """
    await _find_dead_letters(connection, nodes.values())
    _name_known_problems(nodes, records)
    suspects = _suspects(nodes, records)
    stats = await _stats(connection, nodes.values())
    still = [node for node in suspects if node.topic is not None and _is_idle(stats[node.topic])]
    if still:
        await asyncio.sleep(RECHECK_SECONDS)
        await refresh(still)
        _name_known_problems(nodes, records)  # the states were set again
        suspects = _suspects(nodes, records)
        before, stats = stats, await _stats(connection, nodes.values())
        topics = sorted(stats)
        for node in suspects:
            if (topic := node.topic) is None or node.problem is not None:
                continue
            now = stats[topic]
            if _is_idle(now) and now.ready >= before[topic].ready:
                others = [other for other in topics if other != topic]
                node.problem = _standstill(topic, now, others, sure=not node.is_unexplored)
    _name_stale_calls(connection, nodes.values())
    return stats, {node.call_hash for node in suspects}


def _name_stale_calls(connection: Connection, nodes: Iterable[Node]) -> None:
    """Report the queued calls that were put longer than `stale_after` ago, but not those that wait for other calls."""
    longest, now = connection.policy.stale_after, time.time()
    if longest is None:
        return
    for node in nodes:
        if node.state in PUT and node.problem is None and node.since and now - node.since >= longest:
            node.problem = Problem(
                f"it was put {now - node.since:,.0f} s ago, longer than {longest:g} s, and still has no outcome",
                f"Check whether its topic has too few workers, or hanging ones: brrr queue {node.topic or 'TOPIC'}",
            )


async def _stats(connection: Connection, nodes: Iterable[Node]) -> dict[str, QueueStats]:
    topics = sorted({node.topic for node in nodes if node.topic is not None and not node.ended})
    return {topic: await connection.queue.stats(topic) for topic in topics}


async def _find_dead_letters(connection: Connection, nodes: Iterable[Node]) -> None:
    """Find dead letters of calls that have no note of one, because workers of other SDKs write no notes."""
    queued: dict[str, dict[str, Node]] = {}
    for node in nodes:
        if node.state in PUT and node.topic is not None:
            queued.setdefault(node.topic, {})[node.call_hash] = node
    for topic, waiting in queued.items():
        for letter in await connection.queue.dead(topic, limit=DEAD_LETTERS_READ):
            message = message_in(letter.body)
            dead = None if message is None else waiting.get(message.call_hash)
            if dead is not None and letter.buried_at >= (dead.since or 0):
                dead.state, dead.since, dead.attempt = State.DEAD, letter.buried_at, letter.attempt
                dead.reason = letter.reason.partition("\n")[0]


def _name_known_problems(nodes: Mapping[str, Node], records: Mapping[str, Records]) -> None:
    """Set the states of waiting calls, and the problems that the records alone show."""
    for node in nodes.values():
        missing = _missing(node, nodes)
        if missing and node.state in PUT:
            if all(child.state is State.ABSENT for child in missing):
                node.outlook = f"its next run puts {len(missing):,} calls"
            else:
                node.state = State.WAITING
        if node.state is State.DEAD:
            node.problem = Problem(
                f"it was dead-lettered in delivery {node.attempt}: {node.reason}",
                f"Fix the cause, then run: brrr dead redrive {node.topic}",
            )
        elif node.state is State.AWAITED:
            node.problem = Problem(
                f"the event {node.task_name!r} has not happened",
                f"Complete it: brrr complete {node.task_name} ARGUMENTS --event --value JSON",
            )
        elif full := _full_child(node, missing, records):
            node.problem = Problem(
                f"{RETURNS_LIMIT:,} other calls wait for {full.task_name} already, and its record is full: this call "
                "polls for its result",
                f"It continues after {full.task_name} has a result.",
            )


def _missing(node: Node, nodes: Mapping[str, Node]) -> list[Node]:
    """Return the children of a node that were read and have no outcome."""
    return [nodes[name] for name in node.children if name in nodes and not nodes[name].ended]


def _full_child(node: Node, missing: Iterable[Node], records: Mapping[str, Records]) -> Node | None:
    """Return the child whose record has no room for this call."""
    for child in missing:
        pending = records[child.call_hash].pending if child.call_hash in records else PendingReturns()
        if len(pending.returns) >= RETURNS_LIMIT and not _registered(node, [child], records):
            return child
    return None


def _suspects(nodes: Mapping[str, Node], records: Mapping[str, Records]) -> list[Node]:
    """Return the calls that need a message to continue, because no other call wakes them."""
    found: list[Node] = []
    now = time.time()
    for node in nodes.values():
        if node.kind != "call" or node.state not in (*PUT, State.WAITING):
            continue
        if node.state is State.WAITING and records[node.call_hash].note is not None:
            continue  # the dead letter of another call is the cause
        missing = _missing(node, nodes)
        timed = any(child.until is not None and child.until + LATE_TIMER_SECONDS > now for child in missing)
        if not timed and not _registered(node, missing, records):
            found.append(node)
    return found


def _registered(node: Node, missing: Iterable[Node], records: Mapping[str, Records]) -> bool:
    """Whether one of the missing children will wake the call."""
    return any(
        entry.call_hash == node.call_hash
        for child in missing
        if child.call_hash in records
        for entry in records[child.call_hash].pending.returns
    )


def _is_idle(stats: QueueStats) -> bool:
    """Whether a topic has neither a leased nor a delayed message."""
    return not stats.leased and not stats.delayed


def _standstill(topic: str, stats: QueueStats, others: Sequence[str], *, sure: bool) -> Problem:
    if not stats.ready:
        lost = "its message is lost" if sure else "unless it waits for calls that are not known, its message is lost"
        return Problem(
            f"{lost}: the topic {topic!r} has none for it",
            "Put it again with the calls below it: brrr redrive TASK ARGUMENTS --handlers MODULE",
        )
    alike = get_close_matches(topic, others, n=1)
    hint = f", or correct the topic: other calls are on {alike[0]!r}" if alike else ", or correct the topic"
    return Problem(
        f"no worker receives from the topic {topic!r}: {stats.ready:,} messages are ready, and none is leased",
        f"Start one: brrr worker {topic} --handlers MODULE{hint}",
    )


def find_cycles(root: Node, nodes: Mapping[str, Node]) -> Sequence[Sequence[Node]]:
    """Return the cycles of unfinished calls below a call, each once, and give their calls that problem.

    One walk in depth finds at least one cycle of each group of calls that wait for each other.
    """
    cycles: list[list[Node]] = []
    done: set[str] = set()
    path: dict[str, Node] = {root.call_hash: root}
    stack: list[tuple[Node, Iterator[str]]] = [(root, iter(root.children))]
    while stack:
        node, children = stack[-1]
        child = next((nodes[name] for name in children if _unfinished(nodes.get(name)) and name not in done), None)
        if child is None:
            stack.pop()
            del path[node.call_hash]
            done.add(node.call_hash)
        elif child.call_hash in path:
            names = list(path)
            cycles.append([path[name] for name in names[names.index(child.call_hash) :]])
        else:
            path[child.call_hash] = child
            stack.append((child, iter(child.children)))
    for cycle in cycles:
        chain = " → ".join(f"{node.task_name}({node.arguments})" for node in [*cycle, cycle[0]])
        for node in cycle:
            node.problem = Problem(
                f"it waits for itself: {chain}",
                "Change a handler or its arguments so that the chain ends. Then give one of these calls its result by "
                "hand with `brrr complete`, or cancel it.",
            )
    return cycles


def _unfinished(node: Node | None) -> bool:
    return node is not None and node.kind == "call" and not node.ended and node.state is not State.DEAD
