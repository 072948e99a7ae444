"""Control records: which of them a worker reads, how often, and how they change."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

import brrr_core as brrr
from brrr_core.backend import Key
from brrr_core.engine.control import FORGOTTEN, MARKER, Control, Seen, cancelled_key, state_key
from brrr_core.engine.operations import Operations
from brrr_core.errors import BackendUnavailableError, MalformedRecordError
from brrr_core.wire import NO_STATE, CallState, decode_state, encode_state
from brrr_testkit.faults.instrument import Instrument, Operation
from tests.support.virtual import run_virtually


class Bench:
    """Control records over an instrumented memory backend."""

    def __init__(self, backend: object) -> None:
        self.instrument = Instrument()
        roles = self.instrument.wrap(backend)
        assert roles.queue is not None
        assert roles.store is not None
        assert roles.cache is not None
        self.store = backend.store  # type: ignore[attr-defined]
        self.operations = Operations(roles.queue, roles.store, roles.cache)
        self.control = Control(self.operations)

    @property
    def reads(self) -> list[Key]:
        operations = self.instrument.operations
        return [key for operation in operations if operation.name == "store.read" for key in operation.items]

    async def deliver(self, root_id: str = "root", call_hash: str = "call") -> Seen:
        """Read the control records as a delivery does."""
        looking, keys = self.control.look(), self.control.keys(root_id, call_hash)
        records = await self.operations.read(keys)
        return await self.control.seen(looking, keys, records, root_id, call_hash)


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    async with brrr.open_backend("memory:") as backend:
        yield Bench(backend)


def test_fleet_without_the_marker_reads_two_keys_a_second() -> None:
    async def main() -> None:
        async with bench() as b:
            for _ in range(30):
                assert list(await asyncio.gather(b.deliver(), b.deliver())) == [Seen(), Seen()]
                await asyncio.sleep(0.125)
            assert b.reads == [MARKER, FORGOTTEN] * 4

    run_virtually(main())


def test_worker_sees_the_marker_within_a_second_and_keeps_it() -> None:
    async def main() -> None:
        async with bench() as b:
            await b.deliver()
            records = [(MARKER, b"0"), (state_key("call"), encode_state(CallState(cancel=True)))]
            await b.store.write([*records, (cancelled_key("root"), b"")])
            assert await b.deliver() == Seen()
            await asyncio.sleep(1.0)
            assert list(await asyncio.gather(b.deliver(), b.deliver())) == [Seen(CallState(cancel=True), True)] * 2
            assert await b.deliver("other", "other") == Seen()
            assert b.reads.count(MARKER) == 2

    run_virtually(main())


def test_worker_notices_within_a_second_that_calls_were_forgotten() -> None:
    async def main() -> None:
        async with bench() as b:
            notified: list[None] = []
            b.control.on_forgotten = lambda: notified.append(None)
            for number, noticed in ((b"1", 1), (b"1", 1), (b"2", 2)):
                await b.store.write([(FORGOTTEN, number)])
                await asyncio.sleep(1.0)
                await b.deliver()
                assert len(notified) == noticed
            assert not b.control.in_use

    run_virtually(main())


async def test_failed_look_for_the_marker_is_repeated() -> None:
    async def fail(operation: Operation) -> None:
        if operation.number == 1:
            raise BackendUnavailableError("away")

    async with bench() as b:
        await b.store.write([(MARKER, b"0")])
        b.instrument.before = fail
        with pytest.raises(BackendUnavailableError):
            await b.deliver()
        assert not b.control.in_use
        await b.deliver()
        assert b.control.in_use


async def test_delivery_that_is_cancelled_leaves_the_shared_look_to_the_others() -> None:
    async with bench() as b:
        await b.store.write([(MARKER, b"0")])
        first, second = asyncio.create_task(b.deliver()), asyncio.create_task(b.deliver())
        await asyncio.sleep(0)
        first.cancel()
        assert await second == Seen()
        assert b.control.in_use


async def test_concurrent_changes_of_a_state_are_all_kept() -> None:
    async with bench() as b:

        def adding(child: str) -> "asyncio.Future[CallState]":
            return asyncio.ensure_future(
                b.control.update("call", lambda state: replace(state, observed={**state.observed, child: b"failure"}))
            )

        await asyncio.gather(*(adding(f"child{n}") for n in range(5)))
        (state,) = await b.control.states(["call"])
        assert state.observed == {f"child{n}": b"failure" for n in range(5)}


async def test_change_that_changes_nothing_writes_nothing() -> None:
    async with bench() as b:
        assert await b.control.update("call", lambda state: state) == NO_STATE
        assert b.instrument.calls["store.swap"] == 0


@pytest.mark.parametrize(
    "state",
    [
        NO_STATE,
        CallState(cancel=True),
        CallState(cancel=True, cancelled_at=("a", "b"), observed={"c": b"\xc1", "a": b""}, retries=3),
    ],
)
def test_state_survives_its_record(state: CallState) -> None:
    assert decode_state(encode_state(state)) == state


@pytest.mark.parametrize(
    "record", [b"", b"le", b"d6:canceli1e", b"d6:cancel1:1e", b"d12:cancelled_atli1eee", b"d8:observedd1:ai1eee"]
)
def test_malformed_state_is_refused(record: bytes) -> None:
    with pytest.raises(MalformedRecordError):
        decode_state(record)
