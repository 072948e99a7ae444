"""One call for a page: its status, and the graph below it with masked texts."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from brrr_board.rendering import Texts
from brrr_core import AppConsumer, CallStatus, Connection, Task
from brrr_core.codec import Codec
from brrr_explain import Explanation, Node, explain_of

__all__ = ["CallReader", "SeenCall"]

NODES: Final = 20_000
"""The most calls that are read for one graph."""


class SeenCall(NamedTuple):
    """A call, with its status and its graph.

    Attributes:
        status: Its status.
        graph: The graph below it; None if the call has no record.
    """

    status: CallStatus
    graph: Explanation | None


class CallReader:
    """Reads calls.

    Args:
        connection: The connection.
        client: A client of it.
        handlers: The handlers by task name, for replays.
        codec: The codec of the workers.
        texts: Masks the texts that pages show.
    """

    def __init__(
        self,
        connection: Connection,
        client: AppConsumer,
        handlers: Mapping[str, Task],
        codec: str | Codec,
        texts: Texts,
    ) -> None:
        self._connection = connection
        self._client = client
        self._handlers = handlers
        self._codec = codec
        self._texts = texts

    async def read(self, call_hash: str) -> SeenCall:
        """Read a call and its graph.

        Raises:
            MalformedRecordError: A record of the call is not valid.
            BackendError: A backend failed.
        """
        status = await self._client.status_of(call_hash)
        if status.task_name is None:
            return SeenCall(status, None)
        graph = await explain_of(
            self._connection, call_hash, handlers=self._handlers, codec=self._codec, topic=status.topic, limit=NODES
        )
        for node in graph.nodes.values():
            self._mask(node)
        return SeenCall(status, graph)

    def _mask(self, node: Node) -> None:
        node.arguments = self._texts.row(node.arguments)
        if node.reason is not None:
            node.reason = self._texts.row(node.reason)
        if node.problem is not None:
            node.problem = node.problem._replace(what=self._texts.row(node.problem.what))
