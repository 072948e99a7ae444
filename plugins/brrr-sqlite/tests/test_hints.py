"""A process wakes the others of the same file immediately, through a hint file. Correctness does not need the hints."""

import asyncio
import os
from pathlib import Path

import pytest

from brrr_core.backend import Key, Swap
from brrr_sqlite import hints, receivers
from brrr_testkit.waiting import BOUND, until

NEVER = 3600.0
NO_POLLING = {"poll": NEVER}

PUT = """
async def main():
    async with backend(poll=3600) as opened:
        wait_for_go()
        await opened.queue.put("t", [b"x"])

asyncio.run(main())
"""

CREATE = """
async def main():
    async with backend(poll=3600) as opened:
        wait_for_go()
        for each in args:
            await opened.store.swap([Swap(Key("value", each), None, b"1")])

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def no_recheck(monkeypatch):
    """Switch off the periodic recheck, so that only hints can wake a receiver."""
    monkeypatch.setattr(receivers, "RECHECK_SECONDS", NEVER)


def waiting(backend):
    return sum(map(len, backend._commits.receivers._waiting.values()))


def go(process):
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()


async def woken(event):
    async with asyncio.timeout(BOUND):
        await event.wait()


async def create(backend, *names):
    await backend.store.swap([Swap(Key("value", name), None, b"1") for name in names])


async def receiver_of(backend):
    task = asyncio.create_task(backend.queue.receive("t", limit=1, wait=BOUND))
    await until(lambda: waiting(backend))
    return task


async def test_message_of_another_process_wakes_a_receiver(make, processes):
    async with make(**NO_POLLING) as backend:
        receiver = await receiver_of(backend)
        go(processes.start(PUT))
        assert [each.body for each in await receiver] == [b"x"]


async def test_value_of_another_process_wakes_its_watches_only(make, processes):
    async with make(**NO_POLLING) as backend:
        events = {name: asyncio.Event() for name in ("a", "b", "c")}
        for name, event in events.items():
            assert await backend.store.notifier.watch(name, event.set)
        go(processes.start(CREATE, "a", "other", "c"))
        await woken(events["a"])
        await woken(events["c"])
        assert not events["b"].is_set()


async def test_path_may_be_longer_than_that_of_a_socket(make, processes, path):
    long = path.parent.joinpath(*["folder" * 8] * 5, "brrr.db")
    long.parent.mkdir(parents=True)
    processes._path = long
    async with make(long, **NO_POLLING) as backend:
        receiver = await receiver_of(backend)
        go(processes.start(PUT))
        assert [each.body for each in await receiver] == [b"x"]


async def test_removed_file_is_made_again_and_loses_no_wake_up(make, processes, path):
    file = path.with_name("brrr.db-hints")
    async with make(**NO_POLLING) as backend:
        event = asyncio.Event()
        assert await backend.store.notifier.watch("a", event.set)
        putting = processes.start(PUT)
        assert putting.stdout.readline() == "ready\n"
        file.unlink()
        await woken(event)  # what was lost with the file is unknown, so all look
        await until(file.exists)
        receiver = await receiver_of(backend)
        putting.stdin.write("go\n")
        putting.stdin.flush()
        assert [each.body for each in await receiver] == [b"x"]


async def test_full_file_is_emptied_and_wakes_all(make, path, monkeypatch):
    monkeypatch.setattr(hints, "MAX_BYTES", 80)
    async with make(**NO_POLLING) as backend, make(**NO_POLLING) as other:
        event = asyncio.Event()
        assert await backend.store.notifier.watch("never", event.set)
        for number in range(11):
            await create(other, f"{number}")
        await woken(event)
        assert path.with_name("brrr.db-hints").stat().st_size <= 80


async def test_half_a_hint_from_a_full_disk_wakes_all(make, path):
    async with make(**NO_POLLING) as backend:
        event = asyncio.Event()
        assert await backend.store.notifier.watch("never", event.set)
        with path.with_name("brrr.db-hints").open("ab") as file:
            file.write(b"half")
        await woken(event)
        await create(backend, "a")
        assert path.with_name("brrr.db-hints").stat().st_size % hints.HINT_BYTES == 0


async def test_backend_does_not_read_its_own_hints(make, monkeypatch):
    async with make(**NO_POLLING) as backend:
        event, heard = asyncio.Event(), []
        assert await backend.store.notifier.watch("a", event.set)
        monkeypatch.setattr(backend._commits.news._hints, "_on_hints", heard.append)
        await create(backend, "a", "b")
        await woken(event)
        for _ in range(10):
            await backend.store.read([Key("value", "a")])
        assert heard == []


@pytest.mark.parametrize("make_it", [os.mkfifo, os.mkdir, lambda file: file.symlink_to("/dev/zero")])
async def test_backend_works_if_the_hint_file_is_not_a_regular_file(make, path, make_it):
    make_it(path.with_name("brrr.db-hints"))
    async with make() as backend, make() as other:
        event = asyncio.Event()
        assert not await backend.store.notifier.watch("a", event.set)
        receiver = await receiver_of(backend)
        await other.queue.put("t", [b"x"])
        assert len(await receiver) == 1
        await create(other, "a")
        await woken(event)  # backends of one process need no file


async def test_no_descriptor_is_left_open(make):
    def opened():
        return len([*Path("/proc/self/fd").iterdir()])

    before = opened()
    for _ in range(3):
        async with make() as backend:
            assert await backend.store.notifier.watch("a", print)
            await create(backend, "b")
    assert opened() == before
