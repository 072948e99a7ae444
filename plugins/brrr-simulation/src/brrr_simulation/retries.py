"""Clients that retry: a call fails until its cause is repaired, and a client retries it until it has a value."""

import asyncio
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

import brrr_core as brrr
from brrr_core.errors import CallFailedError, NotFoundError
from brrr_simulation.graphs import TOPICS, Graph, Work, current_graph

__all__ = ["REPAIR_HANDLERS", "Retries"]

SHARE: Final = 0.25
"""Share of the histories with retries."""

PAUSE: Final = 60.0
"""Virtual seconds between two retries of a client."""

TRIES: Final = 55
"""Retries after which a call must have its value. They take less time than `resend_after`."""

REPAIRED: Final = 7
"""The value of a repaired part."""


@brrr.handler_no_arg
async def part(number: int) -> int:
    if not current_graph().effects.counts[f"repaired {number}"]:
        raise brrr.TerminalError("it is not repaired yet")
    return REPAIRED


@brrr.handler
async def machine(app: brrr.ActiveWorker, number: int) -> int:
    return number + await app.call(part)(number)


REPAIR_HANDLERS: Final[Mapping[str, Any]] = {task.name: task for task in (part, machine)}
"""The handlers of calls that fail until a client has repaired them."""


class Retries:
    """The calls of one history that clients retry.

    Args:
        seed: The seed of the history. These choices do not influence others.
        graph: The call graph, for its effects.
        lost: Returns whether the queue lost its messages. Then only a redrive recovers them.
        active: Whether the history may have such clients.
    """

    def __init__(self, seed: int, graph: Graph, lost: Callable[[], bool], *, active: bool = True) -> None:
        self._draw = draw = Random(seed + 2)  # noqa: S311 - a simulation
        self._graph = graph
        self._lost = lost
        self._machines = range(draw.randint(1, 2) if active and draw.random() < SHARE else 0)

    def clients(self) -> list[tuple[float, str, Work]]:
        """Return the clients: the time at which each begins, its name and its program."""
        draw, found = self._draw, list[tuple[float, str, Work]]()
        for number in self._machines:
            found.append((draw.uniform(0, 5), f"begins {number}", self._beginner(number)))
            found.append((draw.uniform(0, 90), f"repairs {number}", self._repairer(number)))
        return found

    def check(self, value_of: Callable[[str, int], bytes | None]) -> list[str]:
        """Return the calls without their value at the end. `value_of` returns the record of a task and a number."""
        found = {number: value_of("machine", number) for number in self._machines}
        return [
            f"the retried call {number} must return {number + REPAIRED}, but its value is {value!r}"
            for number, value in found.items()
            if value != b"%d" % (number + REPAIRED)
        ]

    def _beginner(self, number: int) -> Work:
        async def work(client: brrr.AppConsumer) -> None:
            await client.schedule("machine", topic=TOPICS[0])(number)

        return work

    def _repairer(self, number: int) -> Work:
        async def work(client: brrr.AppConsumer) -> None:
            self._graph.effects.counts[f"repaired {number}"] = 1
            for _ in range(TRIES):
                try:
                    await client.read("machine")(number)
                except CallFailedError:
                    await client.retry("machine", topic=TOPICS[0])(number)
                except NotFoundError:
                    if self._lost():
                        await client.schedule("machine", topic=TOPICS[0], redrive=True)(number)
                    else:  # it completes a retry whose program died
                        await client.retry("machine", topic=TOPICS[0])(number)
                else:
                    return
                await asyncio.sleep(PAUSE)
            self._graph.effects.wrong.append(f"the call {number} has no value after {TRIES} retries")

        return work
