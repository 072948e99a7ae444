"""The time of a file goes on, for all its processes, whatever happens to the wall clock and to the machine."""

import sqlite3
from contextlib import closing

import pytest

from brrr_core.backend import QueueStats
from brrr_sqlite import clock
from brrr_sqlite.clock import RECORD_INTERVAL_US, boot_id, steady_ns, to_microseconds

HOUR = 3600.0
NOTE = RECORD_INTERVAL_US / 1e6


@pytest.fixture(params=["named", "unnamed"])
def machine(request, clocks):
    """A machine that tells its boots apart, and one that does not."""
    if request.param == "unnamed":
        clocks.boot = ""
    return clocks


def restart(machine, *, down=0.0, wall=0.0):
    """Start the machine anew after `down` seconds, with its wall clock set forward by `wall`."""
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
async def test_a_process_that_starts_after_a_jump_has_the_time_of_the_others(make, machine, jump):
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


async def test_the_time_goes_on_over_a_restart(make, machine):
    async with make(clocks=machine) as backend:
        await backend.queue.put("t", [b"delayed"], delay=HOUR)
    restart(machine, down=HOUR - 1)
    async with make(clocks=machine) as backend:
        assert await receive(backend) == []
        machine.now += 1
        assert await receive(backend) == [b"delayed"]


async def test_a_restart_is_noticed_though_the_machine_ran_for_a_shorter_time_before(make, clocks):
    clocks.now = 10.0
    async with make(clocks=clocks) as backend:
        await backend.queue.put("t", [b"delayed"], delay=HOUR)
    restart(clocks, down=HOUR)
    clocks.now += 60
    async with make(clocks=clocks) as backend:
        assert await receive(backend) == [b"delayed"]


async def test_a_restart_with_the_wall_clock_set_back_hides_nothing_for_longer_than_a_note(make, machine):
    async with make(clocks=machine) as backend:
        for _ in range(20):
            machine.now += NOTE / 2
            await backend.queue.put("t", [b"x"])
    restart(machine, wall=-3 * HOUR)
    async with make(clocks=machine) as backend:
        machine.now += NOTE
        assert len(await receive(backend)) == 10
        assert len(await receive(backend)) == 10


async def test_a_restart_after_a_jump_counts_the_time_that_the_machine_was_down(make, machine):
    async with make(clocks=machine) as backend:
        machine.ahead -= 3 * HOUR
        machine.now += NOTE
        await backend.queue.put("t", [b"delayed"], delay=HOUR)
    restart(machine, down=HOUR)
    async with make(clocks=machine) as backend:
        assert await receive(backend) == [b"delayed"]


async def test_processes_that_start_after_a_restart_agree(make, machine):
    async with make(clocks=machine):
        pass
    restart(machine, wall=-3 * HOUR)
    async with make(clocks=machine) as first:
        machine.ahead += 5 * HOUR
        async with make(clocks=machine) as second:
            assert first._clock() == second._clock()


async def test_a_file_of_an_earlier_version_gets_its_time(make, machine, path):
    async with make(clocks=machine) as backend:
        await backend.queue.put("t", [b"x"])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TABLE clock")
    async with make(clocks=machine) as backend:
        assert await receive(backend) == [b"x"]


async def test_a_note_is_made_once_a_second_at_most(make, machine):
    async with make(clocks=machine) as backend:
        notes = []
        await backend._connection.run(
            lambda c: c.set_trace_callback(lambda sql: sql.startswith("UPDATE clock") and notes.append(sql))
        )
        for _ in range(30):
            machine.now += NOTE / 10
            await backend.queue.put("t", [b"x"])
        await backend._connection.run(lambda c: c.set_trace_callback(None))
        assert len(notes) == 3


async def test_a_letter_has_the_time_of_the_wall_clock(make, machine):
    async with make(clocks=machine) as backend:
        machine.ahead += HOUR
        await backend.queue.put("t", [b"x"])
        (held,) = await backend.queue.receive("t", limit=1, wait=0)
        await backend.queue.bury(held, "why")
        (letter,) = await backend.queue.dead("t", limit=1)
        assert letter.buried_at == machine.now + HOUR


def test_the_machine_s_clocks_are_there():
    assert steady_ns() <= steady_ns()
    assert boot_id() == boot_id()


def test_a_system_that_names_no_boot_is_borne(monkeypatch, tmp_path):
    monkeypatch.setattr(clock, "BOOT_ID", tmp_path / "nowhere")
    assert boot_id() == ""


def test_a_span_is_cut_to_what_fits():
    assert to_microseconds(1.5) == 1_500_000
    assert to_microseconds(1e300) + 2**61 < 2**63
