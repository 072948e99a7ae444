"""Messages that a worker hands over to itself: they cost no receive, and keep no other message waiting for long."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.backend import Reading, Received, Step, Steps
from brrr_core.engine import worker
from brrr_core.engine.calls import HAND_OVER_LIMIT, HeldDelivery
from brrr_core.engine.control import READINGS
from brrr_testkit.faults.instrument import Instrument
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, UNPARKED, over, working

LENGTH = 48


@brrr.handler
async def chain(app: brrr.ActiveWorker, length: int, name: str) -> int:
    return 0 if length == 0 else 1 + await app.call(chain)(length - 1, name)


@pytest.mark.parametrize("policy", [QUICK, UNPARKED])
@pytest.mark.parametrize("url", ["memory", "sqlite", "redis"], indirect=True)
async def test_messages_of_a_chain_are_received_once_in_seventeen(url: str, policy: brrr.Policy) -> None:
    instrument = Instrument()
    async with brrr.open_backend(url) as opened:
        connection = over(instrument.wrap(opened), policy=policy)
        async with working(connection, {"chain": chain}) as fleet:
            assert await fleet.run(chain, LENGTH, "a") == LENGTH
            assert await fleet.idle() == (0, 0, 0, 0)
    messages = 2 * LENGTH + 1
    assert instrument.calls["steps.receive"] <= messages // (HAND_OVER_LIMIT + 1) + 3


@pytest.mark.parametrize("url", ["memory", "sqlite", "redis"], indirect=True)
async def test_worker_with_one_place_hands_over_to_itself(url: str) -> None:
    instrument = Instrument()
    async with brrr.open_backend(url) as opened:
        connection = over(instrument.wrap(opened), policy=UNPARKED)
        async with working(connection, {"chain": chain}, concurrency=1) as fleet:
            assert await fleet.run(chain, LENGTH, "a") == LENGTH
    messages = 2 * LENGTH + 1
    assert instrument.calls["steps.receive"] <= messages // (HAND_OVER_LIMIT + 1) + 3


@pytest.mark.parametrize("url", ["memory", "sqlite", "redis"], indirect=True)
async def test_topic_is_drained_if_the_last_receive_left_no_ready_message(url: str) -> None:
    async with brrr.open_backend(url) as backend:
        steps = backend.steps
        assert steps is not None
        await backend.queue.put(TOPIC, [b"first", b"second"])
        await backend.queue.put(TOPIC, [b"later"], delay=BOUND)
        drained: list[bool] = []
        for _ in range(2):
            await steps.receive(TOPIC, limit=1, wait=0, readings=())
            drained.append(steps.drained(TOPIC))
    assert drained == [False, True]


class _Reading(Steps):
    """Reads the records of each leased message, and returns them only if the engine asked for them."""

    def __init__(self, inner: Steps) -> None:
        self._inner = inner
        self.stored: list[tuple[bytes, Sequence[bytes | None]]] = []
        self.unasked = 0

    async def receive(self, topic: str, *, limit: int, wait: float, readings: Sequence[Reading]) -> list[Received]:
        return await self._inner.receive(topic, limit=limit, wait=wait, readings=readings)

    def drained(self, topic: str) -> bool:
        return self._inner.drained(topic)

    async def commit(self, steps: Sequence[Step], *, readings: Sequence[Reading] = ()) -> list[list[Received] | None]:
        done = await self._inner.commit(steps, readings=READINGS)
        for delivery, records in (received for leased in done for received in leased or ()):
            self.stored.append((delivery.body, list(records or ())))
            self.unasked += not readings
        if readings:
            return done
        return [None if leased is None else [Received(delivery, []) for delivery, _ in leased] for leased in done]


async def test_call_that_is_handed_over_has_its_records_without_a_read(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[bytes, Sequence[bytes | None]]] = []
    take = worker.Worker._take

    def noted(self: worker.Worker, place: HeldDelivery, received: Sequence[Received]) -> None:
        taken.extend((delivery.body, list(records or ())) for delivery, records in received)
        take(self, place, received)

    monkeypatch.setattr(worker.Worker, "_take", noted)
    async with brrr.open_backend(memory) as backend:
        assert backend.steps is not None
        steps = _Reading(backend.steps)
        roles = backend.roles
        connection = brrr.Connection(roles.queue, roles.store, roles.cache, steps=steps, policy=QUICK)
        async with working(connection, {"chain": chain}) as fleet:
            assert await fleet.run(chain, LENGTH, "a") == LENGTH
    assert steps.unasked > LENGTH / 2
    assert taken == steps.stored


async def test_waiting_message_starts_after_a_bounded_number_of_runs(memory: str) -> None:
    """Both places of the worker are busy with chains, and hand over to themselves."""
    order: list[str] = []
    sent = asyncio.Event()

    @brrr.handler
    async def busy(app: brrr.ActiveWorker, length: int, name: str) -> int:
        order.append(name)
        if length == LENGTH // 2:
            await sent.wait()
        return 0 if length == 0 else 1 + await app.call(busy)(length - 1, name)

    @brrr.handler_no_arg
    async def other() -> None:
        order.append("other")

    handlers: dict[str, Any] = {"busy": busy, "other": other}
    async with brrr.open_backend(memory) as backend:
        connection = over(backend.roles, policy=UNPARKED)
        async with working(connection, handlers, concurrency=2) as fleet:
            for name in ("a", "b"):
                await fleet.app.schedule(busy, topic=TOPIC)(LENGTH, name)
            await fleet.settled(2)  # both have reached the middle
            before = len(order)
            await fleet.app.schedule(other, topic=TOPIC)()
            sent.set()
            await fleet.app.result(other, timeout=BOUND)()
    assert order.index("other") - before <= 2 * (HAND_OVER_LIMIT + 1)
