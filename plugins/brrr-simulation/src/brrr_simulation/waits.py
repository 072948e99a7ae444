"""Clients that wait for the results of roots, with hints of the store or without."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Final, NamedTuple

import brrr_core as brrr
from brrr_core.errors import BuriedError, CallFailedError, ResultTimeoutError, ScheduleCancelledError
from brrr_core.hooks import TopicUnserved, hookimpl
from brrr_core.wire import FAILURE_PREFIX
from brrr_simulation.graphs import Graph, Work

__all__ = ["Waits"]

LATE: Final = 5.0
"""Virtual seconds after which a client must have noticed an outcome, if no fault can strike. It reads every 2 s."""


class _Unserved:
    """Takes the reports of topics without workers, which would be logged otherwise: workers die here."""

    @hookimpl
    def brrr_topic_unserved(self, event: TopicUnserved) -> None:
        pass


class _Wait(NamedTuple):
    """A wait that ended with an outcome.

    Attributes:
        number: The root.
        result: Its result; None if the call failed.
        calm: Whether no fault could strike.
        began: The virtual time at which it began.
        ended: The virtual time at which it ended.
    """

    number: int
    result: Any
    calm: bool
    began: float
    ended: float


class Waits:
    """The waiting clients of one history.

    Args:
        seed: The seed of the history. These choices change no others.
        graph: The call graph.
        now: Returns the virtual time.
        active: Whether the history has such clients.

    Attributes:
        hints: Whether the store gives hints of new values. Some of them get lost.
        hooks: The hooks of all processes.
    """

    def __init__(self, seed: int, graph: Graph, now: Callable[[], float], *, active: bool) -> None:
        self._draw = draw = Random(f"waits {seed}")  # noqa: S311 - a simulation
        self._graph = graph
        self._now = now
        self._active = active
        self.hints = active and draw.random() < 0.7
        self.hooks = [_Unserved()] if active else []
        self._ended: list[_Wait] = []
        self._wrong: list[str] = []

    def clients(self, trouble: float, calm: float) -> list[tuple[float, str, Work]]:
        """Return the clients: the time at which each begins, its name and its program.

        Args:
            trouble: Virtual seconds in which faults are planned.
            calm: Virtual seconds after which no fault strikes.
        """
        draw, found = self._draw, list[tuple[float, str, Work]]()
        for number in self._graph.roots if self._active else ():
            for _ in range(draw.randint(0, 2)):
                timeout = draw.uniform(1, trouble)
                found.append((draw.uniform(0, trouble), f"waits for {number}", self._waiter(number, timeout)))
            found.append((calm + 1, f"awaits {number}", self._waiter(number, None)))
        return found

    def check(self, value_of: Callable[[str, int], bytes | None], settled_at: Callable[[str, int], float]) -> list[str]:
        """Return what waiting clients got that is wrong or late.

        Args:
            value_of: Returns the value record of a task and a number.
            settled_at: Returns the virtual time of its outcome.
        """
        wrong = list(self._wrong)
        for number, result, calm, began, ended in self._ended:
            task = self._graph.nodes[number].task
            value = value_of(task, number) or b""
            if (result is None) != value.startswith(FAILURE_PREFIX) or (result is not None and value != b"%d" % result):
                wrong.append(f"a client that waited for {number} got {result!r}, but its value is {value!r}")
            late = ended - max(began, settled_at(task, number))
            if calm and late > LATE:
                wrong.append(f"a client noticed the outcome of {number} after {late:.1f} s")
        return wrong

    def _waiter(self, number: int, timeout: float | None) -> Work:
        node = self._graph.nodes[number]
        topic = node.topic if self._draw.random() < 0.5 else None

        async def work(client: brrr.AppConsumer) -> None:
            began, clock = self._now(), asyncio.get_running_loop().time
            deadline = None if timeout is None else clock() + timeout
            try:
                result = await client.result(node.task, topic=topic, timeout=timeout)(number)
            except ResultTimeoutError as error:
                if deadline is None or clock() < deadline - 0.01:
                    self._wrong.append(f"the wait for {number} ended early: {error}")
                return
            except (BuriedError, ScheduleCancelledError) as error:
                self._wrong.append(f"the wait for {number} ended without a reason: {error}")
                return
            except CallFailedError:
                result = None
            self._ended.append(_Wait(number, result, timeout is None, began, self._now()))

        return work
