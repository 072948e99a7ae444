"""Forget a call and the calls below it. Keep those that are still needed, with the calls below them."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from brrr_core.app.catalogue import Catalogue
from brrr_core.engine.forgetting import ToForget
from brrr_core.errors import ArgumentError, StillNeededError
from brrr_core.wire import Call
from brrr_explain.explaining import NODES, check_known, explain
from brrr_explain.graph import NO_CALLS, Explanation, Node

__all__ = ["ForgottenTree", "forget"]


class ForgottenTree(NamedTuple):
    """The result of forgetting a tree.

    Attributes:
        graph: The graph before the calls were forgotten.
        forgotten: The calls that were forgotten, or would be.
        kept: Why a call was kept, by its call hash.
        unknown: Forgotten calls whose children are not known, because their handlers were not replayed. Their children
            stay in the store.
    """

    graph: Explanation
    forgotten: list[Node]
    kept: Mapping[str, str]
    unknown: list[Node]


async def forget(
    catalogue: Catalogue,
    call: Call,
    *,
    tree: bool = True,
    keep: Collection[str] = (),
    force: bool = False,
    replay_all: bool = False,
    limit: int = NODES,
    dry_run: bool = False,
) -> ForgottenTree:
    """Delete the records of a call and of all calls below it. Repeating it is safe, and completes it.

    Calls without an outcome and calls that others wait for are kept, and so are all calls below them, which they read
    in their next run.

    Args:
        catalogue: The tasks, the codec and the connection of a client.
        call: The call.
        tree: Whether to forget the calls below it.
        keep: Names of tasks and events whose calls are kept, with the calls below them, because other calls share them.
        force: Forget calls that are still needed, too.
        replay_all: See `explain`.
        limit: See `explain`.
        dry_run: Delete nothing.

    Raises:
        ArgumentError: The graph is larger than `limit`.
        NotFoundError: The store has no record of the call.
        StillNeededError: The call is still needed; not if `force` is set.
        BackendError: A backend failed. Repeating it is safe.
    """
    limit = limit if tree else 1
    graph = await explain(catalogue, call, replay_all=replay_all, limit=limit, finished=True)
    check_known(graph, call)
    if tree and (graph.unexplored or len(graph.nodes) >= limit):
        raise ArgumentError(
            f"the call has more than {limit:,} calls below it, and the rest would stay in the store",
            remedy="Raise the limit of nodes, or forget the calls below it first.",
        )
    kept = _kept(graph, keep, force=force)
    if graph.root.call_hash in kept:
        raise StillNeededError(
            f"the call {call.call_hash} of {call.task_name!r} is still needed: {kept[call.call_hash]}",
            remedy="Wait for it, or cancel it. With `force` it is forgotten with its outcome and its message.",
        )
    going = [
        node for node in reversed(list(graph.nodes.values())) if node.kind != "sleep" and node.call_hash not in kept
    ]
    if not dry_run:
        done = await catalogue.connection.forget([_to_forget(node) for node in going], force=force)
        kept |= done.kept
        going = [node for node in going if node.call_hash in set(done.forgotten)]
    unknown = [node for node in going if node.kind == "call" and node.is_unexplored]
    return ForgottenTree(graph, going, kept, unknown)


def _kept(graph: Explanation, keep: Collection[str], *, force: bool) -> dict[str, str]:
    """Return why calls are kept, with all calls below them."""
    kept: dict[str, str] = {}
    for node in graph.nodes.values():
        if node.task_name in keep:
            kept[node.call_hash] = "its task is in `keep`"
        elif not force and not node.ended and node.kind != "sleep":
            kept[node.call_hash] = "it has no outcome"
    left = list(kept)
    while left:
        above = graph.nodes[left.pop()]
        for child in graph.children(above):
            if child.call_hash not in kept and child.kind != "sleep":
                kept[child.call_hash] = f"{above.task_name} {above.arguments} is kept, and needs it"
                left.append(child.call_hash)
    return kept


def _to_forget(node: Node) -> ToForget:
    return ToForget(node.call_hash, () if node.kind == "event" or node.not_replayed == NO_CALLS else node.waits)
