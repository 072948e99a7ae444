"""All processes share the time of a file. It continues when the wall clock is set and when the machine restarts."""

import sqlite3
from contextlib import closing

import pytest

from brrr_core.backend import QueueStats
from brrr_sqlite import clock
from brrr_sqlite.clock import RECORD_INTERVAL_US, boot_id, steady_ns, to_microseconds

HOUR = 3600.0
RECORD_INTERVAL = RECORD_INTERVAL_US / 1e6


@pytest.fixture(params=["boot ids", "no boot ids"])
def machine(request, clocks):
    """A machine with boot ids, and one without."""
    if request.param == "no boot ids":
        clocks.boot = ""
    return clocks


def restart(machine, *, down=0.0, wall=0.0):
    """Restart the machine after `down` seconds, with its wall clock set forward by `wall` seconds."""
    wall += machine.now + machine.ahead + down
    machine.now = 5.0
    machine.ahead = wall - machine.now
    if machine.boot:
        machine.boot += " and again"


async def receive(backend):
    return [delivery.body for delivery in await backend.queue.receive("t", limit=10, wait=0)]


@pytest.mark.parametrize("jump", [-3 * HOUR, 3 * HOUR])
async def test_setting_the_wall_clock_changes_no_message(make, machine, jump):
    async with make(clocks=machine) as backend:
        queue = backend.queue
        await queue.put("t", [b"held"])
        await receive(backend)
        await queue.put("t", [b"ready"])
        await queue.put("t", [b"delayed"], delay=10)
        machine.ahead += jump
        assert await queue.stats("t") == QueueStats(1, 1, 1, 0)
        assert await receive(backend) == [b"ready"]
        machine.now += 10
        assert await receive(backend) == [b"delayed"]
        machine.now += 20
        assert sorted(await receive(backend)) == [b"held", b"ready"]


@pytest.mark.parametrize("jump", [-3 * HOUR, 3 * HOUR])
async def test_process_started_after_a_clock_jump_shares_the_time_of_the_others(make, machine, jump):
    async with make(clocks=machine) as first:
        await first.queue.put("t", [b"old"])
        await first.queue.put("t", [b"delayed"], delay=10)
        machine.ahead += jump
        async with make(clocks=machine) as second:
            assert await receive(second) == [b"old"]
            await second.queue.put("t", [b"new"])
            assert await receive(first) == [b"new"]
            machine.now += 10
            assert await receive(second) == [b"delayed"]


async def test_time_continues_over_a_restart_of_the_machine(make, machine):
    async with make(clocks=machine) as backend:
        await backend.queue.put("t", [b"delayed"], delay=HOUR)
    restart(machine, down=HOUR - 1)
    async with make(clocks=machine) as backend:
        assert await receive(backend) == []
        machine.now += 1
        assert await receive(backend) == [b"delayed"]


async def test_boot_id_reveals_a_restart_after_a_shorter_uptime(make, clocks):
    clocks.now = 10.0
    async with make(clocks=clocks) as backend:
        await backend.queue.put("t", [b"delayed"], delay=HOUR)
    restart(clocks, down=HOUR)
    clocks.now += 60
    async with make(clocks=clocks) as backend:
        assert await receive(backend) == [b"delayed"]


async def test_restart_with_the_wall_clock_set_back_hides_messages_for_one_record_interval_at_most(make, machine):
    async with make(clocks=machine) as backend:
        for _ in range(20):
            machine.now += RECORD_INTERVAL / 2
            await backend.queue.put("t", [b"x"])
    restart(machine, wall=-3 * HOUR)
    async with make(clocks=machine) as backend:
        machine.now += RECORD_INTERVAL
        assert len(await receive(backend)) == 10
        assert len(await receive(backend)) == 10


async def test_restart_after_a_clock_jump_counts_the_downtime(make, machine):
    async with make(clocks=machine) as backend:
        machine.ahead -= 3 * HOUR
        machine.now += RECORD_INTERVAL
        await backend.queue.put("t", [b"delayed"], delay=HOUR)
    restart(machine, down=HOUR)
    async with make(clocks=machine) as backend:
        assert await receive(backend) == [b"delayed"]


async def test_processes_started_after_a_restart_share_one_time(make, machine):
    async with make(clocks=machine):
        pass
    restart(machine, wall=-3 * HOUR)
    async with make(clocks=machine) as first:
        machine.ahead += 5 * HOUR
        async with make(clocks=machine) as second:
            assert first._clock() == second._clock()


async def test_file_without_a_clock_table_gets_one(make, machine, path):
    async with make(clocks=machine) as backend:
        await backend.queue.put("t", [b"x"])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TABLE clock")
    async with make(clocks=machine) as backend:
        assert await receive(backend) == [b"x"]


async def test_time_is_recorded_once_a_second_at_most(make, machine):
    async with make(clocks=machine) as backend:
        records = []
        await backend._connection.run(
            lambda c: c.set_trace_callback(lambda sql: sql.startswith("UPDATE clock") and records.append(sql))
        )
        for _ in range(30):
            machine.now += RECORD_INTERVAL / 10
            await backend.queue.put("t", [b"x"])
        await backend._connection.run(lambda c: c.set_trace_callback(None))
        assert len(records) == 3


async def test_dead_letter_has_the_time_of_the_wall_clock(make, machine):
    async with make(clocks=machine) as backend:
        machine.ahead += HOUR
        await backend.queue.put("t", [b"x"])
        (held,) = await backend.queue.receive("t", limit=1, wait=0)
        await backend.queue.bury(held, "why")
        (dead_letter,) = await backend.queue.dead("t", limit=1)
        assert dead_letter.buried_at == machine.now + HOUR


def test_clocks_of_the_machine_can_be_read():
    assert steady_ns() <= steady_ns()
    assert boot_id() == boot_id()


def test_boot_id_is_empty_if_the_system_has_none(monkeypatch, tmp_path):
    monkeypatch.setattr(clock, "BOOT_ID", tmp_path / "nowhere")
    assert boot_id() == ""


def test_long_duration_is_limited_to_64_bits():
    assert to_microseconds(1.5) == 1_500_000
    assert to_microseconds(1e300) + 2**61 < 2**63
