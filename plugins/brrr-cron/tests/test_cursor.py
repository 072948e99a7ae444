"""Each tick of a schedule happens once, although all workers run the schedule, may die, and disagree on the time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.backend import Key, Swap
from brrr_core.errors import BackendUnavailableError, MalformedRecordError
from brrr_cron import CronSchedule, Missed, cursor, every
from brrr_cron.times import text_of
from brrr_testkit.faults.instrument import Instrument, Operation
from brrr_testkit.workloads.fleet import over

TOPIC = "work"
DAY = 24 * 3600
THREE = datetime(2026, 3, 2, 3, tzinfo=UTC).timestamp()
"""A tick of the schedule."""

CURSOR = Key("value", "brrr.cron/nightly")

_names = count()


@brrr.handler_no_arg
async def nightly(tick: str) -> str:
    return tick


def daily(spec: str = "0 3 * * *", *, missed: Missed = "last") -> CronSchedule:
    return every(spec, nightly, name="nightly", missed=missed)


class Worker:
    """One worker's view of a schedule, whose clock the test sets."""

    def __init__(self, roles: Any, schedule: CronSchedule) -> None:
        self.instrument = Instrument()
        connection = over(self.instrument.wrap(roles), steps=False)  # each operation can fail by itself
        app = brrr.AppWorker(handlers={"nightly": nightly}, codec="json", connection=connection)
        self.tick: Callable[[float], Awaitable[float]] = schedule.begin(connection, app.handle, TOPIC)

    def fail_at(self, *names: str, after: bool = False) -> None:
        """Let each of these operations fail once, in this order."""
        left = list(names)

        async def fail(operation: Operation) -> None:
            if left and operation.name == left[0]:
                del left[0]
                raise BackendUnavailableError("the line is cut")

        setattr(self.instrument, "after" if after else "before", fail)


class Space:
    """A store and a queue that workers share."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    def worker(self, schedule: CronSchedule | None = None) -> Worker:
        return Worker(self.backend, schedule or daily())

    async def cursor(self) -> str:
        """Return the tick of the cursor."""
        (record,) = await self.backend.store.read([CURSOR])
        return str(record.decode().split(" ")[0])

    async def ticks(self) -> list[str]:
        """Take all messages, and return the ticks of their calls, in order."""
        deliveries = await self.backend.queue.receive(TOPIC, limit=10_000, wait=0)
        await self.backend.queue.ack(deliveries)
        hashes = [brrr_hash(delivery.body) for delivery in deliveries]
        records = await self.backend.store.read([Key("call", call_hash) for call_hash in hashes])
        return sorted(record.split(b'"')[1].decode() for record in records)


def brrr_hash(body: bytes) -> str:
    """Return the call hash of a message: its last 64 characters before the end of the list."""
    return body[-65:-1].decode()


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursor, "JITTER_SECONDS", 0)


@pytest.fixture
async def space() -> AsyncIterator[Space]:
    async with brrr.open_backend(f"memory:cron-{next(_names)}") as backend:
        yield Space(backend)


def at(days: float = 0, seconds: float = 0) -> str:
    return text_of(datetime.fromtimestamp(THREE + days * DAY + seconds, UTC))


async def test_schedule_begins_when_a_worker_first_sees_it(space: Space) -> None:
    assert await space.worker().tick(THREE + 1.5) == THREE + DAY
    assert await space.cursor() == at(seconds=1)
    assert await space.ticks() == []


async def test_tick_is_put_at_its_time(space: Space) -> None:
    worker = space.worker()
    assert await worker.tick(THREE - 60) == THREE
    assert await worker.tick(THREE + 0.1) == THREE + DAY
    assert await space.ticks() == [at()]
    assert await space.cursor() == at()


async def test_many_workers_put_one_message_for_each_tick(space: Space) -> None:
    workers = [space.worker() for _ in range(5)]
    for days in range(10):
        await asyncio.gather(*(worker.tick(THREE + days * DAY + 0.1) for worker in workers))
    assert await space.ticks() == [at(days) for days in range(1, 10)]


async def test_worker_that_finds_a_tick_done_reads_once(space: Space) -> None:
    first, second = space.worker(), space.worker()
    for worker in (first, second):
        await worker.tick(THREE - 60)
    await first.tick(THREE)
    for worker in (first, second):
        worker.instrument.calls.clear()
    await first.tick(THREE + DAY)
    assert await second.tick(THREE + DAY) == THREE + 2 * DAY
    assert second.instrument.calls == {"store.read": 1}
    # The first worker claims the tick, marks its call and moves the cursor. The rest is what a schedule costs.
    assert first.instrument.calls["store.swap"] == 3
    assert first.instrument.calls["queue.put"] == 1


async def test_worker_that_finds_a_tick_claimed_returns_when_the_claim_expires(space: Space) -> None:
    first, second = space.worker(), space.worker()
    await second.tick(THREE - 60)
    first.fail_at("queue.put")
    with pytest.raises(BackendUnavailableError):
        await first.tick(THREE)

    assert await second.tick(THREE + 1) == THREE + cursor.CLAIM_SECONDS
    assert await second.tick(THREE + cursor.CLAIM_SECONDS) == THREE + DAY
    assert await space.ticks() == [at()]


async def test_worker_retries_under_its_own_claim(space: Space) -> None:
    worker = space.worker()
    await worker.tick(THREE - 60)
    worker.fail_at("queue.put")
    with pytest.raises(BackendUnavailableError):
        await worker.tick(THREE)

    assert await worker.tick(THREE + 1) == THREE + DAY
    assert await space.ticks() == [at()]


@pytest.mark.parametrize("lost_answer", [False, True])
@pytest.mark.parametrize("operations", [("store.swap",), ("store.swap", "store.swap"), ("store.read",), ("queue.put",)])
async def test_tick_survives_a_failure_of_any_step(
    space: Space, operations: tuple[str, ...], lost_answer: bool
) -> None:
    first, second = space.worker(), space.worker()
    await first.tick(THREE - 60)
    first.fail_at(*operations, after=lost_answer)
    for late in range(len(operations)):
        with pytest.raises(BackendUnavailableError):
            await first.tick(THREE + late)
    for now in (THREE + 5, THREE + 6 + cursor.CLAIM_SECONDS):
        await second.tick(now)

    assert set(await space.ticks()) == {at()}
    assert await space.cursor() == at()


@pytest.mark.parametrize(("missed", "expected"), [("none", []), ("last", [at(3)]), ("all", [at(1), at(2), at(3)])])
async def test_missed_ticks_run_as_the_option_says(space: Space, missed: Missed, expected: list[str]) -> None:
    await space.worker(daily(missed=missed)).tick(THREE)
    assert await space.worker(daily(missed=missed)).tick(THREE + 3.5 * DAY) == THREE + 4 * DAY
    assert await space.ticks() == expected
    assert await space.cursor() == at(3)


@pytest.mark.parametrize("missed", ["none", "last", "all"])
async def test_ticks_of_the_last_minute_are_not_missed(space: Space, missed: Missed) -> None:
    schedule = daily("*/20 * * * * *", missed=missed)
    await space.worker(schedule).tick(THREE)
    await space.worker(schedule).tick(THREE + 59)
    assert await space.ticks() == [at(seconds=20), at(seconds=40)]


async def test_missed_ticks_are_bounded(space: Space) -> None:
    schedule = daily("* * * * *", missed="all")
    await space.worker(schedule).tick(THREE)
    await space.worker(schedule).tick(THREE + 2 * DAY)
    ticks = await space.ticks()
    assert (len(ticks), ticks[-1]) == (1_000, at(2))


async def test_worker_with_a_slow_clock_repeats_no_tick_and_never_moves_the_cursor_back(space: Space) -> None:
    ahead, behind = space.worker(), space.worker()
    await behind.tick(THREE - 60)
    await ahead.tick(THREE)
    assert await behind.tick(THREE - 5) == THREE + DAY
    assert await behind.tick(THREE + 1) == THREE + DAY
    assert await space.cursor() == at()
    assert await space.ticks() == [at()]


async def test_worker_with_a_slow_clock_keeps_a_cursor_that_it_first_sees(space: Space) -> None:
    await space.worker().tick(THREE)
    assert await space.worker().tick(THREE - 5) == THREE + DAY
    assert await space.cursor() == at()


async def test_claim_of_a_wrong_clock_does_not_delay_others(space: Space) -> None:
    wrong, right = space.worker(), space.worker()
    await right.tick(THREE - 60)
    wrong.fail_at("queue.put")
    with pytest.raises(BackendUnavailableError):
        await wrong.tick(THREE + 7 * DAY)

    assert await right.tick(THREE) == THREE + DAY
    assert await space.ticks() == [at()]


async def test_tick_is_not_lost_if_the_record_is_deleted_while_a_worker_runs(space: Space) -> None:
    worker = space.worker()
    await worker.tick(THREE)
    assert await space.backend.store.swap([Swap(CURSOR, at().encode(), None)]) == [True]
    await worker.tick(THREE + DAY)
    assert await space.ticks() == [at(1)]
    assert await space.cursor() == at(1)


async def test_workers_that_begin_a_schedule_together_lose_no_tick(space: Space) -> None:
    """A worker that lost the creation of the record does not believe in its own later beginning."""
    early, late = space.worker(), space.worker()

    async def create_first(operation: Operation) -> None:
        if operation.number == 1:
            await early.tick(THREE - 1)

    late.instrument.after = create_first
    await late.tick(THREE + 0.5)
    assert await space.ticks() == [at()]


async def test_call_that_has_a_result_is_not_put_again(space: Space) -> None:
    await space.worker().tick(THREE - 60)
    await space.worker().tick(THREE)
    (first,) = await space.backend.queue.receive(TOPIC, limit=10, wait=0)
    await space.backend.store.write([(Key("value", brrr_hash(first.body)), b'"done"')])
    await space.backend.queue.ack([first])
    await space.backend.store.write([(CURSOR, at(-1).encode())])

    await space.worker().tick(THREE)

    assert await space.ticks() == []
    assert await space.cursor() == at()


async def test_named_schedule_continues_with_a_new_expression(space: Space) -> None:
    await space.worker(daily("0 3 * * *")).tick(THREE - 60)
    await space.worker(daily("0 3 * * *")).tick(THREE)
    changed = space.worker(daily("0 5 * * *"))
    assert await changed.tick(THREE + 3600) == THREE + 7200
    assert await changed.tick(THREE + 7200) == THREE + 7200 + DAY
    assert await space.ticks() == [at(), at(seconds=7200)]


async def test_invalid_cursor_is_reported(space: Space) -> None:
    await space.backend.store.write([(CURSOR, b"tomorrow")])
    with pytest.raises(MalformedRecordError, match="'nightly' is not valid: b'tomorrow'"):
        await space.worker().tick(THREE)
