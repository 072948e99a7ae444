"""The graph of the calls below one call, as it was read: the children, the state and the problem of each call."""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal, NamedTuple, TypeAlias

from brrr_core.backend import QueueStats
from brrr_core.wire import Call

__all__ = ["NO_CALLS", "PUT", "Explanation", "Kind", "Node", "Problem", "State"]

Kind: TypeAlias = Literal["call", "event", "sleep"]


NO_CALLS: Final = "it makes no calls"
"""The reason why a handler without the active worker is not replayed."""


class State(StrEnum):
    """The state of a call, an event or a sleep."""

    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"
    """Its caller stopped waiting for it at a deadline."""
    DEAD = "dead-lettered"
    RETRYING = "retrying"
    """Its last attempt failed, and another one is due."""
    QUEUED = "queued"
    """It was put on its topic, and waits for no known call: its message is ready, delayed, leased or lost."""
    WAITING = "waiting"
    """It waits for other calls."""
    SLEEPING = "sleeping"
    AWAITED = "awaited"
    """An event that has not happened."""
    ABSENT = "not scheduled"
    """Its caller has not put it yet."""


PUT: Final = (State.QUEUED, State.RETRYING)
"""The states of a call whose message should be on its topic."""


class Problem(NamedTuple):
    """A reason why a call does not continue by itself.

    Attributes:
        what: One sentence.
        remedy: What to do, often a command.
    """

    what: str
    remedy: str


@dataclass(slots=True, eq=False)
class Node:
    """A call, an event or a sleep.

    Attributes:
        call_hash: Its identity.
        task_name: The task; `brrr.sleep` for a sleep, and the name of the event for an event.
        kind: Call, event or sleep.
        arguments: Its arguments: text if they are printable, else base64.
        topic: The topic of its messages; None if it is not known, or if it has none.
        state: Its state.
        since: Time at which it was last put or dead-lettered, in unix seconds; None if not known.
        until: Time at which its delay, its sleep or the deadline of its caller ends, or its next attempt begins, in
            unix seconds.
        reason: Why it, or its last attempt, failed, or why it was dead-lettered.
        attempt: The delivery in which it was dead-lettered, or the number of the failed attempt.
        children: The call hashes of the calls that its handler awaits up to the first missing result, each once.
        not_replayed: Why its handler did not run, so that its children are not known; None if it ran.
        waits: The reserved call hashes of the sleeps and deadlines of its handler; None if it was not replayed.
        outlook: The outcome that its next run will have, if it does not wait for other calls.
        waiters: The number of calls that it will wake.
        problem: Why it does not continue by itself; None if it does, or if another call is the cause.
    """

    call_hash: str
    task_name: str
    kind: Kind = "call"
    arguments: str = ""
    topic: str | None = None
    state: State = State.ABSENT
    since: float | None = None
    until: float | None = None
    reason: str | None = None
    attempt: int | None = None
    children: list[str] = field(default_factory=list[str])
    not_replayed: str | None = None
    waits: Sequence[str] | None = None
    outlook: str | None = None
    waiters: int = 0
    problem: Problem | None = None

    @property
    def ended(self) -> bool:
        """Whether it has an outcome."""
        return self.state in (State.DONE, State.FAILED, State.EXPIRED)

    @property
    def is_unexplored(self) -> bool:
        """Whether its handler may make calls that are not known, because it was not replayed."""
        return self.not_replayed not in (None, NO_CALLS)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The state of a call and of all calls below it.

    Attributes:
        root: The call.
        nodes: All nodes by call hash.
        cycles: Calls that wait for each other, each list from one call back to itself. They wait forever.
        topics: The messages of each topic, as the queue counts them.
        at: Time at which the graph was read, in unix seconds.
        calls: The calls of the nodes, by call hash.
        idle: The call hashes of those that only a message can continue: no other call will wake them.
        unexplored: The number of unfinished calls that were not read, because the graph is larger than the limit.
    """

    root: Node
    nodes: Mapping[str, Node]
    cycles: Sequence[Sequence[Node]]
    topics: Mapping[str, QueueStats]
    at: float
    calls: Mapping[str, Call]
    idle: AbstractSet[str]
    unexplored: int = 0

    @property
    def problems(self) -> list[Node]:
        """The nodes with a problem, in the order in which the graph was read: from the root down."""
        return [node for node in self.nodes.values() if node.problem is not None]

    def children(self, node: Node) -> Iterator[Node]:
        """Yield the children of a node that were read."""
        for call_hash in node.children:
            if call_hash in self.nodes:
                yield self.nodes[call_hash]

    def waits_for(self, node: Node) -> list[Node]:
        """Return the children without an outcome."""
        return [child for child in self.children(node) if not child.ended]

    def counts(self) -> dict[State, int]:
        """Return the number of nodes in each state."""
        found: dict[State, int] = {}
        for node in self.nodes.values():
            found[node.state] = found.get(node.state, 0) + 1
        return found
