"""An instrument counts a step as the simple operations with the same effects, and its hooks run around each effect."""

import pytest

import brrr_core as brrr
from brrr_core.backend import Count, Key, Message, Reading, Roles, Step
from brrr_core.errors import BackendClosedError
from brrr_testkit.faults.instrument import Instrument, Operation

KEY, MARK = Key("value", "hash"), Key("pending_returns", "hash")
MESSAGE = b"li2e4:root4:hashe"
READINGS = (Reading("value"), Reading("call"))


async def test_applied_step_counts_as_the_operations_that_it_replaces() -> None:
    instrument = Instrument()
    async with brrr.open_backend("memory:") as backend:
        roles = instrument.wrap(backend)
        assert roles.steps is not None
        step = Step(
            [(KEY, None), (MARK, None)],
            [Count("one", 1, 9), Count("two", 1, 9)],
            [(KEY, b"value")],
            [Message("topic", MESSAGE), Message("topic", MESSAGE, leased=True)],
            [(MARK, b"mark")],
        )
        (leased,) = await roles.steps.commit([step], readings=READINGS)
        assert leased is not None
        (received,) = await roles.steps.receive("topic", limit=9, wait=0, readings=READINGS)
        await roles.steps.commit([Step((), acks=[received.delivery, leased[0].delivery])])
        assert await roles.steps.commit([Step([(KEY, None)], writes=[(KEY, b"other")])]) == [None]

    assert instrument.calls == {"steps.commit": 3, "steps.receive": 1}
    assert +instrument.items == {
        "cache.increment": 2,
        "store.write": 1,
        "queue.put": 2,
        "store.swap": 1,
        "queue.ack": 2,
        "received": 2,
        "store.read": 4,
    }


async def test_hooks_surround_the_effect_of_a_commit() -> None:
    seen: list[str] = []

    async def before(operation: Operation) -> None:
        seen.append(f"before {operation.name} {len(operation.items)}")

    async def after(operation: Operation) -> None:
        seen.append("after")
        instrument.dead = True

    instrument = Instrument(before, after, lambda operation, result: seen.append(f"effect {result}"))
    async with brrr.open_backend("memory:") as backend:
        roles = instrument.wrap(backend)
        assert roles.steps is not None
        steps = [Step((), writes=[(KEY, b"value")])]
        with pytest.raises(BackendClosedError, match="killed"):
            await roles.steps.commit(steps)
        with pytest.raises(BackendClosedError, match="killed"):
            await roles.steps.receive("topic", limit=1, wait=0, readings=())
        assert await backend.store.read([KEY]) == [b"value"]

    assert seen == ["before steps.commit 1", "effect [[]]", "after"]


async def test_backend_without_steps_has_none_behind_an_instrument() -> None:
    async with brrr.open_backend("memory:") as backend:
        assert Instrument().wrap(Roles(backend.queue, backend.store, backend.cache)).steps is None
