"""Deferring and returning in one step, and the fallback to single operations."""

from collections.abc import Callable, Sequence
from typing import Any

import brrr_core as brrr
from brrr_core.backend import Key, Reading, Received, Step, Steps
from brrr_core.engine.calls import HAND_OVER_LIMIT
from brrr_core.plugins import open_backend
from brrr_core.wire import PendingReturn, PendingReturns, decode_pending, encode_pending
from brrr_testkit.faults.instrument import Instrument
from brrr_testkit.workloads.fleet import QUICK, TOPIC, working

LENGTH = 20


@brrr.handler
async def chain(app: brrr.ActiveWorker, length: int) -> int:
    return 0 if length == 0 else 1 + await app.call(chain)(length - 1)


class _Counted(Steps):
    """Counts the steps that were applied, and those that were not. `before` runs before each commit."""

    def __init__(self, inner: Steps, before: Callable[[Sequence[Step]], Any] = lambda _: None) -> None:
        self._inner = inner
        self._before = before
        self.receives = self.commits = self.applied = self.refused = 0

    async def receive(self, topic: str, *, limit: int, wait: float, readings: Sequence[Reading]) -> list[Received]:
        received = await self._inner.receive(topic, limit=limit, wait=wait, readings=readings)
        self.receives += bool(received)
        return received

    async def commit(self, steps: Sequence[Step], *, readings: Sequence[Reading] = ()) -> list[list[Received] | None]:
        waiting = self._before(steps)
        if waiting is not None:
            await waiting
        self.commits += 1
        done = await self._inner.commit(steps, readings=readings)
        self.refused += done.count(None)
        self.applied += len(done) - done.count(None)
        return done


async def test_call_of_a_chain_needs_two_commits_and_few_receives() -> None:
    async with open_backend("memory:") as backend:
        assert backend.steps is not None
        steps, instrument = _Counted(backend.steps), Instrument()
        roles = instrument.wrap(backend)
        connection = brrr.Connection(roles.queue, roles.store, roles.cache, steps=steps, policy=QUICK)
        async with working(connection, {"chain": chain}) as fleet:
            scheduled = await fleet.app.schedule(chain, topic=TOPIC)(LENGTH)
            before = dict(instrument.calls)
            assert await fleet.app.result(chain)(LENGTH) == LENGTH
            reads = instrument.calls["store.read"] - before.get("store.read", 0)
    assert scheduled.root_id is not None
    # The client schedules, each call returns, and each but the last defers.
    assert (steps.applied, steps.refused) == (2 * LENGTH + 2, 0)
    assert steps.receives <= 2 * LENGTH // HAND_OVER_LIMIT + 2
    assert reads <= 12  # of the waiting client, and of the marker
    assert not {name for name in ("store.swap", "store.write", "queue.put", "queue.ack") if
                instrument.calls[name] > before.get(name, 0)}  # fmt: skip


async def test_child_that_another_worker_scheduled_is_registered_by_single_operations() -> None:
    async with open_backend("memory:") as backend:
        assert backend.steps is not None

        async def schedule(step: Step) -> None:
            for message in step.messages:
                await backend.store.write(step.writes)
                await backend.queue.put(message.topic, [message.body])
                await backend.store.write([(key, encode_pending(PendingReturns((), 1))) for key, _ in step.marks])

        def before(steps: Sequence[Step]) -> Any:
            return schedule(steps[0]) if steps[0].writes[0][0].kind == "call" else None

        steps = _Counted(backend.steps, before)
        policy = brrr.Policy(resend_after=None)
        connection = brrr.Connection(backend.queue, backend.store, backend.cache, steps=steps, policy=policy)
        async with working(connection, {"chain": chain}) as fleet:
            assert await fleet.run(chain, 1) == 1
    assert steps.refused  # the first step of the parent


async def test_parent_that_registers_between_look_and_return_is_woken() -> None:
    late = PendingReturn("late-root", "f" * 64, "elsewhere")
    async with open_backend("memory:") as backend:
        assert backend.steps is not None

        async def register(key: Key) -> None:
            (record,) = await backend.store.read([key])
            pending = PendingReturns() if record is None else decode_pending(record)
            if late not in pending.returns:
                both = PendingReturns(tuple(sorted((*pending.returns, late))), pending.scheduled_at)
                await backend.store.write([(key, encode_pending(both))])

        def before(steps: Sequence[Step]) -> Any:
            for step in steps:
                for key, _ in step.writes:
                    if key.kind == "value":
                        return register(Key("pending_returns", key.call_hash))
            return None

        steps = _Counted(backend.steps, before)
        connection = brrr.Connection(backend.queue, backend.store, backend.cache, steps=steps, policy=QUICK)
        async with working(connection, {"chain": chain}) as fleet:
            assert await fleet.run(chain, 1) == 1
        woken = await backend.queue.stats("elsewhere")
    assert woken.ready == 2
    assert steps.refused == 2


async def test_step_over_the_spawn_limit_is_refused_like_single_operations() -> None:
    async with open_backend("memory:") as backend:
        policy = brrr.Policy(spawn_limit=5, backoff=0.001)
        connection = brrr.Connection(backend.queue, backend.store, backend.cache, steps=backend.steps, policy=policy)
        async with working(connection, {"chain": chain}) as fleet:
            await fleet.app.schedule(chain, topic=TOPIC)(9)
            letters = await fleet.dead(1)
    assert "spawn limit" in letters[0] or "SpawnLimit" in letters[0]
