"""Completing a call: it has one value, each parent wakes, and the pending record is deleted only if it is unchanged."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

import brrr_core as brrr
from brrr_core.backend import Backend, Key
from brrr_core.engine.local_cache import ValueCache
from brrr_core.engine.operations import Operations
from brrr_core.engine.returning import Completion, Returner
from brrr_core.engine.roots import SpawnBudget
from brrr_core.errors import MalformedRecordError, SpawnLimitError
from brrr_core.wire import PendingReturn, PendingReturns, count_key, decode_message, decode_pending, encode_pending
from brrr_testkit.faults.instrument import Instrument, Operation, nothing

TOPIC = "topic"


@dataclass
class Bench:
    """A returner over an instrumented memory backend."""

    backend: Backend
    instrument: Instrument
    returner: Returner

    async def completion(self, name: str, payload: bytes | None = b"value") -> Completion:
        """The completion of a call, with a delivery of its own."""
        await self.backend.queue.put(TOPIC, [b"message"])
        (delivery,) = await self.backend.queue.receive(TOPIC, limit=1, wait=0)
        return Completion(delivery, name, payload)

    async def wait_for(self, name: str, *roots: str) -> None:
        """Let parents of these roots wait for the call."""
        returns = tuple(PendingReturn(root, f"parent of {root}", "parents") for root in roots)
        await self.backend.store.write([(Key("pending_returns", name), encode_pending(PendingReturns(returns, 5)))])

    @property
    def woken(self) -> Counter[str]:
        puts = [operation for operation in self.instrument.operations if operation.name == "queue.put"]
        return Counter(decode_message(body).root_id for operation in puts for body in operation.items)

    async def record(self, kind: str, name: str) -> bytes | None:
        (found,) = await self.backend.store.read([Key(kind, name)])  # type: ignore[arg-type]
        return found


@asynccontextmanager
async def bench(spawn_limit: int = 10_000) -> AsyncIterator[Bench]:
    async with brrr.open_backend("memory:") as backend:
        instrument = Instrument()
        roles = instrument.wrap(backend)
        assert roles.queue is not None
        assert roles.store is not None
        assert roles.cache is not None
        operations = Operations(roles.queue, roles.store, roles.cache)
        yield Bench(backend, instrument, Returner(operations, SpawnBudget(operations, spawn_limit), ValueCache(1_000)))


async def test_value_is_written_before_parents_wake_and_the_delivery_is_settled() -> None:
    async with bench() as b:
        await b.wait_for("c", "r1", "r2")
        completion = await b.completion("c")
        await b.returner.complete(completion)
        names = [operation.name for operation in b.instrument.operations]
        assert names == ["store.swap", "store.read", "cache.increment", "queue.put", "store.swap", "queue.ack"]
        assert completion.first
        assert b.woken == {"r1": 1, "r2": 1}
        assert await b.record("value", "c") == b"value"
        assert await b.record("pending_returns", "c") is None
        assert await b.backend.queue.stats(TOPIC) == (0, 0, 0, 0)


async def test_first_value_is_kept() -> None:
    async with bench() as b:
        await b.returner.complete(await b.completion("c", b"first"))
        second = await b.completion("c", b"second")
        await b.returner.complete(second)
        assert not second.first
        assert await b.record("value", "c") == b"first"


async def test_first_of_two_concurrent_completions_counts_and_parents_wake_once() -> None:
    async with bench() as b:
        await b.wait_for("c", "r1")
        both = [await b.completion("c", b"one"), await b.completion("c", b"two")]
        await asyncio.gather(*map(b.returner.complete, both))
        assert [completion.first for completion in both] == [True, False]
        assert b.woken == {"r1": 1}
        assert await b.backend.queue.stats(TOPIC) == (0, 0, 0, 0)


async def test_parent_that_registers_meanwhile_wakes_and_the_others_wake_once() -> None:
    async with bench() as b:
        await b.wait_for("c", "r1")

        async def come(operation: Operation) -> None:
            if operation.name == "store.swap" and b.instrument.calls["store.swap"] == 2:
                await b.wait_for("c", "r1", "r2")

        b.instrument.before = come
        await b.returner.complete(await b.completion("c"))
        assert b.woken == {"r1": 1, "r2": 1}
        assert await b.record("pending_returns", "c") is None


async def test_parent_of_root_over_its_limit_stays_in_the_record() -> None:
    async with bench(spawn_limit=10) as b:
        await b.backend.cache.increment({count_key("spent"): 10})
        await b.wait_for("c", "rich", "spent")
        with pytest.raises(SpawnLimitError, match="spent"):
            await b.returner.complete(await b.completion("c"))
        assert b.woken == {"rich": 1}
        record = await b.record("pending_returns", "c")
        assert record is not None
        assert [entry.root_id for entry in decode_pending(record).returns] == ["spent"]
        assert (await b.backend.queue.stats(TOPIC)).leased == 1  # the caller still has to bury it


async def test_failed_call_does_not_affect_other_calls_of_the_batch() -> None:
    async with bench(spawn_limit=10) as b:
        await b.backend.cache.increment({count_key("spent"): 10})
        await b.wait_for("limit", "spent")
        await b.backend.store.write([(Key("pending_returns", "poison"), b"junk")])
        await b.wait_for("fine", "r1")
        completions = [await b.completion(name) for name in ("limit", "poison", "fine")]
        outcomes = await asyncio.gather(*map(b.returner.complete, completions), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [SpawnLimitError, MalformedRecordError, type(None)]
        assert b.woken == {"r1": 1}
        assert [await b.record("value", name) for name in ("limit", "poison", "fine")] == [b"value"] * 3
        assert len([o for o in b.instrument.operations if o.name == "store.read"]) == 1  # all in one batch


async def test_message_of_a_finished_call_wakes_parents_that_registered_since() -> None:
    async with bench() as b:
        await b.wait_for("c", "r1")
        await b.returner.complete(await b.completion("c", None))
        assert b.woken == {"r1": 1}
        assert await b.record("value", "c") is None  # no payload, so no value is written
        assert await b.backend.queue.stats(TOPIC) == (0, 0, 0, 0)


async def test_return_over_its_limit_is_not_written_back_if_another_worker_took_it() -> None:
    async with bench(spawn_limit=1) as b:
        await b.backend.cache.increment({count_key("poor"): 5})
        await b.wait_for("c", "poor")

        async def taken(operation: Operation) -> None:
            if operation.name == "store.swap" and operation.items[0].key.kind == "pending_returns":
                b.instrument.before = nothing
                await b.wait_for("c", "rich")  # the record changes between the read and the swap

        b.instrument.before = taken
        await b.returner.complete(await b.completion("c"))
        assert b.woken == {"rich": 1}
        assert await b.record("pending_returns", "c") is None
