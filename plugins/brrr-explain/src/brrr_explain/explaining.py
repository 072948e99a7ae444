"""Read the graph of calls below a call: its records, and by replay the calls that each handler makes."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from brrr_core import Connection, Task
from brrr_core.app.catalogue import Catalogue
from brrr_core.backend import Key
from brrr_core.codec import Codec
from brrr_core.engine.attempts import attempt_key, read_failed_attempt
from brrr_core.engine.calls import EVENT, Child
from brrr_core.engine.control import state_key
from brrr_core.engine.stranding import is_stranded, note_key, read_note
from brrr_core.engine.waits import reserved
from brrr_core.errors import MalformedRecordError, NotFoundError
from brrr_core.safe_text import shown_bytes
from brrr_core.wire import (
    EXPIRED,
    FAILURE_PREFIX,
    Call,
    PendingReturns,
    decode_call,
    decode_failure,
    decode_pending,
    decode_state,
)
from brrr_explain.diagnosis import Records, diagnose, find_cycles
from brrr_explain.graph import Explanation, Node, State
from brrr_explain.replay import Replay, Replayer, refusal

__all__ = ["NODES", "check_known", "explain", "explain_of"]

NODES: Final = 200_000
"""The most nodes of a graph, by default."""

BATCH_SIZE: Final = 500
"""The most calls whose records are read in one operation."""

CONCURRENT_REPLAYS: Final = 16
"""Replays that run concurrently."""

UNKNOWN_TOPIC: Final = "(unknown)"
"""The topic of a call in a replay, if no record says on which topic it is."""


async def explain(
    catalogue: Catalogue,
    call: Call,
    *,
    topic: str | None = None,
    replay: bool = True,
    replay_all: bool = False,
    limit: int = NODES,
    finished: bool = False,
) -> Explanation:
    """Read a call and all calls below it. It writes nothing, and runs handlers only to find their calls.

    Args:
        catalogue: The tasks, the codec and the connection of a client.
        call: The call.
        topic: Its topic, if it is known. Otherwise it is read from the records of its children, if they name it.
        replay: Whether to replay handlers. Without it, only the records of the call itself are read.
        replay_all: Whether to replay all handlers that take the active worker, not only those with `replay=True`.
        limit: The most nodes to read.
        finished: Whether to read the calls below finished calls, too.

    Raises:
        BackendError: The store or the queue failed.
    """
    connection = catalogue.connection
    replayer = Replayer(catalogue, connection.queue, connection.store, connection.cache, time.time)
    try:
        reader = _Reader(
            catalogue.tasks if replay else {}, replayer, replay_all=replay_all, limit=limit, finished=finished
        )
        root = await reader.read_root(call, topic)
        if not replay and not root.ended:
            root.not_replayed = "replays are turned off"
        cycles = find_cycles(root, reader.nodes)
        topics, idle = await diagnose(connection, reader.nodes, reader.records, refresh=reader.refresh)
        return Explanation(
            root, reader.nodes, cycles, topics, time.time(), reader.calls, idle, unexplored=reader.unexplored
        )
    finally:
        await replayer.close()


async def explain_of(
    connection: Connection,
    call_hash: str,
    *,
    handlers: Mapping[str, Task] | None = None,
    codec: str | Codec = "json",
    topic: str | None = None,
    limit: int = NODES,
) -> Explanation:
    """Explain a call by its hash, as logs and dead letters name it, and all calls below it.

    Args:
        connection: The connection.
        call_hash: The call.
        handlers: The handlers by task name. Without them, only the records of the call itself are read.
        codec: The codec of the workers, or its name.
        topic: The topic of the call, if it is known.
        limit: The most calls to read.

    Raises:
        NotFoundError: The call was never scheduled.
        MalformedRecordError: The record of the call is not valid.
        BackendError: The store or the queue failed.
    """
    (record,) = await connection.read([Key("call", call_hash)])
    if record is None:
        raise NotFoundError(
            f"the call {call_hash} has no record", remedy="Check the hash. The call may never have been scheduled."
        )
    catalogue = Catalogue(handlers or {}, codec, connection, closed=False)
    return await explain(catalogue, decode_call(call_hash, record), topic=topic, limit=limit)


def check_known(found: Explanation, call: Call) -> None:
    """Check that the store knows the call of a graph.

    Raises:
        NotFoundError: It has no record of it.
    """
    if found.root.state is State.ABSENT:
        raise NotFoundError(
            f"the store has no record of the call {call.call_hash} of {call.task_name!r}",
            remedy="Check the arguments, and that this is the store of its workers.",
        )


class _Reader:
    """Reads the graph level by level.

    Attributes:
        nodes: The nodes by call hash.
        calls: Their calls.
        records: The records of those that have no outcome.
        unexplored: The unfinished calls that were left out.
    """

    def __init__(
        self, tasks: Mapping[str, Any], replayer: Replayer, *, replay_all: bool, limit: int, finished: bool
    ) -> None:
        self.nodes: dict[str, Node] = {}
        self.records: dict[str, Records] = {}
        self.unexplored = 0
        self._tasks = tasks
        self._replayer = replayer
        self._replay_all = replay_all
        self._limit = limit
        self._finished = finished
        self.calls: dict[str, Call] = {}
        self._slots = asyncio.Semaphore(CONCURRENT_REPLAYS)

    async def read_root(self, call: Call, topic: str | None) -> Node:
        """Read the graph below a call, and return its node."""
        root = self._add(Child(call, topic or UNKNOWN_TOPIC))
        value = await self._replayer.value(call.call_hash)
        if value is not None:
            _settle(root, value)
            if not self._finished:
                return root
        level = [root]
        while level:
            for start in range(0, len(level), BATCH_SIZE):
                await self._read(level[start : start + BATCH_SIZE])
            found = await asyncio.gather(*[self._replay(node) for node in level])
            level = [child for children in found for child in children]
        self._inherit_topics()
        return root

    async def refresh(self, nodes: Sequence[Node]) -> None:
        """Read the outcomes and the records of nodes once more, and set their states."""
        for start in range(0, len(nodes), BATCH_SIZE):
            batch = nodes[start : start + BATCH_SIZE]
            values = await self._replayer.read([Key("value", node.call_hash) for node in batch])
            for node, value in zip(batch, values, strict=True):
                if value is not None:
                    _settle(node, value)
            await self._read([node for node in batch if not node.ended])

    async def _read(self, nodes: Sequence[Node]) -> None:
        """Read the records of nodes that have no value, and set their states."""
        found = iter(await self._replayer.read([key for node in nodes for key in _record_keys(node)]))
        for node, pending, note, call, state, attempt in zip(nodes, *(found,) * 5, strict=False):
            records = self.records[node.call_hash] = Records(
                _pending(pending), read_note(note), call is not None, state, read_failed_attempt(attempt)
            )
            if not node.ended:
                _describe(node, records)
            for parent in records.pending.returns:
                if (known := self.nodes.get(parent.call_hash)) is not None and known.topic is None:
                    known.topic = parent.topic

    def _inherit_topics(self) -> None:
        """Give calls without a topic the topic of their caller, which may become known only after its replay."""
        for node in self.nodes.values():
            for child in map(self.nodes.get, node.children):
                if child is not None and child.topic is None and child.kind == "call":
                    child.topic = node.topic

    async def _replay(self, node: Node) -> list[Node]:
        """Replay the handler of a node, and return the new nodes to read."""
        if (node.ended and not self._finished) or node.kind != "call":
            return []
        if node.state is State.ABSENT:
            node.not_replayed = "it has not been scheduled"
            return []
        node.not_replayed = refusal(self._tasks.get(node.task_name), replay_all=self._replay_all)
        if node.not_replayed is not None or self._limit <= len(self.nodes):
            return []
        async with self._slots:
            state = decode_state(self.records[node.call_hash].state)
            replay = await self._replayer.replay(self.calls[node.call_hash], node.topic or UNKNOWN_TOPIC, state)
        node.not_replayed, node.outlook = replay.refused, replay.outlook
        if replay.refused is not None:
            return []
        return self._take(node, replay)

    def _take(self, node: Node, replay: Replay) -> list[Node]:
        """Add the children that a replay found. Return the new ones to read."""
        node.waits = reserved(list(replay.children.values()))
        new: list[Node] = []
        for call_hash, child in replay.children.items():
            node.children.append(call_hash)
            if call_hash in self.nodes:
                continue
            value = replay.values.get(call_hash)
            if value is None and len(self.nodes) >= self._limit:
                self.unexplored += 1
                continue
            added = self._add(child)
            if value is not None:
                _settle(added, value)
            if value is None or self._finished:
                new.append(added)
        return new

    def _add(self, child: Child) -> Node:
        call, topic, _, wait = child
        name = call.task_name.removeprefix(EVENT)
        node = Node(call.call_hash, name, topic=None if topic in ("", UNKNOWN_TOPIC) else topic)
        if child.is_sleep:
            node.kind, node.state = "sleep", State.SLEEPING
        elif name != call.task_name:
            node.kind, node.topic = "event", None
        if node.kind != "sleep":
            node.arguments = shown_bytes(call.payload)
        node.until = None if wait is None else wait.due
        self.nodes[call.call_hash] = node
        self.calls[call.call_hash] = call
        return node


def _record_keys(node: Node) -> tuple[Key, ...]:
    name = node.call_hash
    return Key("pending_returns", name), note_key(name), Key("call", name), state_key(name), attempt_key(name)


def _pending(record: bytes | None) -> PendingReturns:
    try:
        return PendingReturns() if record is None else decode_pending(record)
    except MalformedRecordError:
        return PendingReturns()  # the worker that reads it dead-letters the message with the reason


def _settle(node: Node, value: bytes) -> None:
    """Give a node its outcome."""
    if value.startswith(FAILURE_PREFIX):
        failure = decode_failure(value)
        node.state, node.reason = State.FAILED, f"{failure.error_type}: {failure.message}"
    else:
        node.state = State.EXPIRED if value == EXPIRED else State.DONE
    node.until = None


def _describe(node: Node, records: Records) -> None:
    """Set the state of a node without an outcome by its records."""
    pending, note = records.pending, records.note
    node.waiters = sum(entry.call_hash != node.call_hash for entry in pending.returns)
    if node.kind != "call":
        node.state = State.SLEEPING if node.kind == "sleep" else State.AWAITED
        return
    node.since = pending.scheduled_at
    if note is not None and is_stranded(pending, node.call_hash):
        if note.call_hash == node.call_hash:
            node.state, node.since, node.attempt = State.DEAD, note.at, note.attempt
            node.reason, node.topic = note.reason, note.topic
        else:
            node.state, node.reason = State.WAITING, f"{note.call_hash} was dead-lettered: {note.reason}"
    elif pending.scheduled_at is None and not records.known:
        node.state = State.ABSENT
    elif (last := records.failed) is not None:
        node.state, node.until, node.attempt = State.RETRYING, last.due, last.attempt
        node.reason, node.topic = last.reason, last.topic
    else:
        node.state = State.QUEUED
