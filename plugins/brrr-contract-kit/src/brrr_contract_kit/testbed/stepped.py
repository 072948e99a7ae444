"""An open backend with steps, as the rules STEPS use it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from brrr_contract_kit.testbed.checks import broken, equal
from brrr_contract_kit.testbed.context import Context
from brrr_core.backend import Backend, Cache, Delivery, Key, Queue, Reading, Received, Step, Steps, Store, Swap

__all__ = [
    "NOTHING_LEASED",
    "SteppedBackend",
    "SteppedStore",
    "records_of",
    "schedule_message",
    "stepped_backend",
    "steps_of",
]


@dataclass(frozen=True, slots=True)
class SteppedBackend:
    """The roles and the steps of an open backend."""

    ctx: Context
    queue: Queue
    store: Store
    cache: Cache
    steps: Steps

    async def commit(self, *steps: Step, readings: Sequence[Reading] = ()) -> list[list[Received] | None]:
        """Commit the steps. Leased messages that are not settled by the end of the rule are acknowledged."""
        done = await self.steps.commit(steps, readings=readings)
        equal(len(done), len(steps), "the number of results")
        for leased in done:
            self.ctx.hold(self.queue, [each.delivery for each in leased or ()])
        return done

    async def applied(self, step: Step, *, readings: Sequence[Reading] = ()) -> list[Received]:
        """Commit a step that must be applied, and return its leased messages."""
        (leased,) = await self.commit(step, readings=readings)
        if leased is None:
            broken("a step whose expected records are as given, and whose counters are within limits, was not applied")
        return leased

    async def receive(
        self, topic: str, *, limit: int = 1, wait: float = 0, readings: Sequence[Reading] = ()
    ) -> list[Received]:
        """Receive once; deliveries that are not settled by the end of the rule are acknowledged."""
        found = await self.steps.receive(topic, limit=limit, wait=wait, readings=readings)
        self.ctx.hold(self.queue, [each.delivery for each in found])
        return found

    async def one(self, topic: str, *, within: float | None = None, readings: Sequence[Reading] = ()) -> Received:
        """Receive one message within `within` seconds, by default the grace, or fail the rule."""
        found = await self.receive(topic, wait=self.ctx.grace if within is None else within, readings=readings)
        if len(found) != 1:
            broken(f"a receive with the limit 1 returned {len(found)} messages; expected one")
        return found[0]

    async def put(self, topic: str, body: bytes) -> Delivery:
        """Put a message and lease it."""
        await self.queue.put(topic, [body])
        return await self.ctx.take_one(self.queue, topic)

    async def counts(self, *counters: str) -> list[int]:
        """Read counters."""
        found = await self.cache.increment(dict.fromkeys(counters, 0))
        return [found[counter] for counter in counters]


async def stepped_backend(ctx: Context, *, short_lease: bool = False) -> SteppedBackend:
    """Open a new backend with steps."""
    backend = await ctx.backend(short_lease=short_lease)
    return SteppedBackend(ctx, backend.queue, backend.store, backend.cache, steps_of(backend))


def steps_of(backend: Backend) -> Steps:
    """Return the steps of a backend that offers them, as every other backend on its URL does."""
    if backend.steps is None:
        broken("one backend on the URL offers steps, and another one does not")
    return backend.steps


class SteppedStore(Store):
    """A store that writes and swaps by steps."""

    def __init__(self, stepped_backend: SteppedBackend) -> None:
        self._store = stepped_backend.store
        self._steps = stepped_backend.steps

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Read as the store does."""
        return await self._store.read(keys)

    async def write(self, items: Sequence[tuple[Key, bytes]]) -> None:
        """Write by one step."""
        await self._steps.commit([Step((), writes=items)])

    async def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Swap by a step each."""
        steps = [Step([(key, expected)], marks=[(key, new)]) for key, expected, new in swaps]
        return [leased is not None for leased in await self._steps.commit(steps)]


NOTHING_LEASED: Final[list[Received]] = []
"""The result of a step that was applied and leased no message."""


def records_of(received: Received) -> list[bytes | None] | None:
    """Return the records of a message as a list, which can be compared."""
    return None if received.records is None else [*received.records]


def schedule_message(root_id: str, call_hash: str) -> bytes:
    """Return the message of a call (`docs/reference/protocol.md`)."""
    return f"li2e{len(root_id)}:{root_id}{len(call_hash)}:{call_hash}e".encode()
