"""Find calls that wait for each other."""

from collections.abc import Iterator, Mapping, Sequence

from brrr_explain.graph import Node, Problem, State

__all__ = ["find_cycles"]


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
