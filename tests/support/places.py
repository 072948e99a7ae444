"""Backends in virtual time that fail on demand, and workers that start, stop and crash, for tests of workers."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import brrr_core as brrr
from brrr_core.backend import BackendUrl, Duration
from brrr_core.backend.memory import MemoryBackend, MemoryOptions
from brrr_core.errors import BackendUnavailableError
from brrr_core.hooks import CallFailed, CallIsolated, LeaseLost, LoopBlocked
from brrr_testkit.faults.instrument import Instrument, Operation
from brrr_testkit.workloads.fleet import TOPIC, over
from tests.support.virtual import run_virtually

__all__ = ["LEASE", "Place", "until", "virtually"]

LEASE = 30.0
BOUND = 24 * 3600.0
"""Virtual seconds after which a test is stuck."""


class Place:
    """Backends in virtual time, and workers on them. They use no steps, so that roles fail one by one.

    Attributes:
        away: The operations that fail, by how their names begin.
        seen: Values of `app.attempt`, in order.
        failures: Events of handlers that raised.
        isolated: Events of calls that ran alone.
        leases: Events of lost leases and blocked event loops.
        crashes: Number of crashed processes.
    """

    def __init__(self, backend: MemoryBackend) -> None:
        self.backend = backend
        self.away: tuple[str, ...] = ()
        self.seen: list[int] = []
        self.failures: list[CallFailed] = []
        self.isolated: list[CallIsolated] = []
        self.leases: list[LeaseLost | LoopBlocked] = []
        self.crashes = 0
        self.instrument = Instrument(before=self._refuse)
        self.client = brrr.AppConsumer(codec="json", connection=over(backend))

    async def _refuse(self, operation: Operation) -> None:
        if self.away and operation.name.startswith(self.away):
            raise BackendUnavailableError(f"{operation.name} is cut off")

    @brrr.hookimpl
    def brrr_call_failed(self, event: CallFailed) -> None:
        self.failures.append(event)

    @brrr.hookimpl
    def brrr_call_isolated(self, event: CallIsolated) -> None:
        self.isolated.append(event)

    @brrr.hookimpl
    def brrr_lease_lost(self, event: LeaseLost) -> None:
        self.leases.append(event)

    @brrr.hookimpl
    def brrr_loop_blocked(self, event: LoopBlocked) -> None:
        self.leases.append(event)

    @asynccontextmanager
    async def worker(self, handlers: Mapping[str, Any], **policy: Any) -> AsyncIterator[brrr.Connection]:
        """Run a worker inside the block."""
        roles = self.instrument.wrap(self.backend)
        connection = over(roles, policy=brrr.Policy(**policy), hooks=[self], steps=False)
        app = brrr.AppWorker(handlers=handlers, codec="json", connection=connection)
        loop = asyncio.create_task(connection.loop(TOPIC, app.handle))
        try:
            yield connection
        finally:
            connection.stop()
            await loop
            await connection.close()

    async def process(
        self, handlers: Callable[[Callable[[], Awaitable[None]]], Mapping[str, Any]], **policy: Any
    ) -> None:
        """Run a worker process, and restart it when a handler ends it with the function that `handlers` gets."""
        while True:
            died = asyncio.Event()
            instrument = Instrument()

            async def die(died: asyncio.Event = died, instrument: Instrument = instrument) -> None:
                instrument.dead = True
                died.set()
                await asyncio.Event().wait()

            roles = instrument.wrap(self.backend)
            connection = over(roles, policy=brrr.Policy(**policy), hooks=[self], steps=False)
            app = brrr.AppWorker(handlers=handlers(die), codec="json", connection=connection)
            loop = asyncio.create_task(connection.loop(TOPIC, app.handle))
            await died.wait()
            self.crashes += 1
            while not loop.done():
                loop.cancel()
                await asyncio.sleep(0)
            loop.cancelled() or loop.exception()

    async def dead(self) -> str:
        """Wait for a dead letter, and return the reason of the only one."""
        while not (await self.backend.queue.stats(TOPIC)).dead:  # noqa: ASYNC110 - no event signals this
            await asyncio.sleep(1)
        (letter,) = await self.backend.queue.dead(TOPIC, limit=2)
        return letter.reason

    async def deliver(self, times: int) -> None:
        """Deliver every message `times` times to receivers that release it."""
        for _ in range(times):
            await self.backend.queue.release(await self.backend.queue.receive(TOPIC, limit=1000, wait=0))


def virtually(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in virtual time, with a new place as its first argument."""

    def run(**parameters: Any) -> None:
        async def main() -> None:
            clock = asyncio.get_running_loop().time
            options = MemoryOptions(Duration(LEASE))
            async with MemoryBackend(BackendUrl("memory"), options, clock=clock) as backend, asyncio.timeout(BOUND):
                await test(Place(backend), **parameters)

        run_virtually(main())

    _, *parameters = inspect.signature(test).parameters.values()
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # what pytest goes by
    run.__name__ = test.__name__
    return run


async def until(condition: Callable[[], object]) -> None:
    """Wait, in virtual time, until a condition holds."""
    while not condition():  # noqa: ASYNC110 - no event signals this
        await asyncio.sleep(0.1)
