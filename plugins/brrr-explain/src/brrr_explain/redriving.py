"""Put new messages for a call, and for the calls below it that no other call will wake."""

from typing import NamedTuple

from brrr_core.app.catalogue import Catalogue
from brrr_core.wire import Call
from brrr_explain.explaining import NODES, check_known, explain
from brrr_explain.graph import Explanation, Node, State

__all__ = ["Redriven", "redrive"]


class Redriven(NamedTuple):
    """The result of a redrive.

    Attributes:
        graph: The graph before the redrive.
        put: The calls that got a new message.
        without_topic: Calls that need a message, but have no record that names their topic.
        unknown: Unfinished calls whose children are not known, because their handlers were not replayed. A worker puts
            their children when it runs them.
    """

    graph: Explanation
    put: list[Node]
    without_topic: list[Node]
    unknown: list[Node]


async def redrive(
    catalogue: Catalogue, call: Call, *, topic: str | None = None, replay_all: bool = False, limit: int = NODES
) -> Redriven:
    """Put a new message for a call, and for each call below it that needs one. Repeating it is safe.

    Args:
        catalogue: The tasks, the codec and the connection of a client.
        call: The call.
        topic: Its topic, if no record names it.
        replay_all: See `explain`.
        limit: See `explain`.

    Raises:
        NotFoundError: The store has no record of the call.
        BackendError: A backend failed. Repeating it is safe.
        SpawnLimitError: The policy allows no message.
    """
    graph = await explain(catalogue, call, topic=topic, replay_all=replay_all, limit=limit)
    check_known(graph, call)
    wanted = [node for node in graph.nodes.values() if node.state is State.DEAD or node.call_hash in graph.idle]
    put: list[Node] = []
    for node in reversed(wanted):  # callees first: a caller that runs immediately finds them scheduled
        if node.topic is not None:
            await catalogue.connection.schedule(graph.calls[node.call_hash], node.topic, redrive=True)
            put.append(node)
    unfinished = [node for node in graph.nodes.values() if node.kind == "call" and not node.ended]
    unknown = [node for node in unfinished if node.is_unexplored]
    return Redriven(graph, put, [node for node in wanted if node.topic is None], unknown)
