"""Several processes on one file: no 'database is locked', exact counts, one winner per race, no loss by kill -9."""

import asyncio
import json
import signal

import pytest

from brrr_core.backend import Key, QueueStats

HAMMER = """
async def main():
    me, done, rounds = args[0], [], 60
    async with backend() as b:
        wait_for_go()
        async def client(n):
            for turn in range(rounds):
                name = f"{me}/{n}/{turn}".encode()
                await b.queue.put("t", [name])
                await b.store.write([(Key("value", f"{me}/{n}"), name)])
                await b.cache.increment({"count": 1})
                for delivery in await b.queue.receive("t", limit=2, wait=0):
                    done.append(delivery.body.decode())
                    assert delivery.attempt == 1
                    await b.queue.ack([delivery])
        await asyncio.gather(*map(client, range(8)))
    say(*done)
asyncio.run(main())
"""

CREATE = """
async def main():
    async with backend() as b:
        wait_for_go()
        keys = [Key("value", str(n)) for n in range(50)]
        for n in range(0, 50, 5):
            won = await b.store.swap([Swap(key, None, args[0].encode()) for key in keys[n:n + 5]])
            say(*map(int, won))
asyncio.run(main())
"""

UPDATE = """
async def main():
    async with backend() as b:
        wait_for_go()
        key = Key("pending_returns", "h")
        for _ in range(50):
            while True:
                (now,) = await b.store.read([key])
                if await b.store.swap([Swap(key, now, b"%d" % (int(now or 0) + 1))]) == [True]:
                    break
asyncio.run(main())
"""

HOLDER = """
async def main():
    async with backend(lease=float(args[0])) as b:
        say(len(await b.queue.receive("t", limit=10, wait=0)))
        sys.stdin.readline()
asyncio.run(main())
"""

WRITER = """
async def main():
    async with backend() as b:
        async def client(n):
            for turn in range(10**9):
                name = f"{args[0]}/{n}/{turn}"
                await b.queue.put("t", [name.encode()])
                await b.store.swap([Swap(Key("call", name), None, b"x")])
                say(name)
        await asyncio.gather(*map(client, range(8)))
asyncio.run(main())
"""


async def test_four_busy_processes_lose_and_repeat_nothing(make, processes):
    said = await asyncio.to_thread(processes.race, 4, HAMMER)
    done = [name for words in said for name in words.split()]
    assert len(done) == len(set(done))  # no message was delivered twice
    async with make() as backend:
        left = await backend.queue.receive("t", limit=10_000, wait=0)
        assert sorted([*done, *(d.body.decode() for d in left)]) == sorted(
            f"{me}/{n}/{turn}" for me in range(4) for n in range(8) for turn in range(60)
        )
        assert await backend.cache.increment({"count": 0}) == {"count": 4 * 8 * 60}
        keys = [Key("value", f"{me}/{n}") for me in range(4) for n in range(8)]
        assert await backend.store.read(keys) == [f"{key.call_hash}/59".encode() for key in keys]


async def test_eight_processes_can_create_the_file_together(make, processes):
    script = """
wait_for_go()
async def main():
    async with backend() as b:
        await b.cache.increment({"count": 1})
asyncio.run(main())
"""
    await asyncio.to_thread(processes.race, 8, script)
    async with make() as backend:
        assert await backend.cache.increment({"count": 0}) == {"count": 8}


async def test_one_of_eight_processes_creates_a_record(make, processes):
    said = await asyncio.to_thread(processes.race, 8, CREATE)
    won = [[int(word) for word in words.split()] for words in said]
    assert [sum(column) for column in zip(*won, strict=True)] == [1] * 50
    async with make() as backend:
        values = await backend.store.read([Key("value", str(n)) for n in range(50)])
        assert [won[int(value)][n] for n, value in enumerate(values)] == [1] * 50


async def test_concurrent_swaps_lose_no_update(make, processes):
    await asyncio.to_thread(processes.race, 4, UPDATE)
    async with make() as backend:
        assert await backend.store.read([Key("pending_returns", "h")]) == [b"200"]


async def test_messages_of_a_killed_process_are_delivered_again(make, processes):
    async with make() as backend:
        await backend.queue.put("t", [b"x"] * 3)
        holder = processes.start(HOLDER, 2)
        assert await asyncio.to_thread(holder.stdout.readline) == "3\n"
        holder.kill()
        again = await backend.queue.receive("t", limit=10, wait=30)
        assert [d.attempt for d in again] == [2, 2, 2]
        await backend.queue.ack(again)
        assert await backend.queue.stats("t") == QueueStats(0, 0, 0, 0)


@pytest.mark.parametrize("victim", range(4))
async def test_completed_operations_survive_kill_9(make, processes, victim):
    """Kill one of two writers in the middle of commits, at a different point in each run, and later the other one."""
    writers = [processes.start(WRITER, n) for n in range(2)]
    said = []

    async def listen(writer, lines):
        for _ in range(lines):
            said.append(await asyncio.to_thread(writer.stdout.readline))

    await listen(writers[1], 1)
    await listen(writers[0], 20 + 37 * victim)
    writers[0].send_signal(signal.SIGKILL)
    await listen(writers[1], 10)
    writers[1].send_signal(signal.SIGKILL)
    for writer in writers:
        # `communicate` would skip the text that `readline` has already buffered.
        said += await asyncio.to_thread(writer.stdout.readlines)
    # A writer prints a whole line only after its operations have returned.
    names = [line.strip() for line in said if line.endswith("\n")]
    assert len(names) >= 31 + 37 * victim
    async with make() as backend:
        assert await backend.store.read([Key("call", name) for name in names]) == [b"x"] * len(names)
        there = {d.body.decode() for d in await backend.queue.receive("t", limit=10**6, wait=0)}
        assert there.issuperset(names)
        (answer,) = await backend._connection.run(lambda c: c.execute("PRAGMA integrity_check").fetchone())
        assert answer == "ok"


async def test_forked_child_cannot_use_the_backend(processes):
    child = processes.start("""
import json, os, warnings
warnings.simplefilter("ignore")  # Python warns of forking with threads, and this test does just that
async def main():
    async with backend() as b:
        queue = b.queue
        read, write = os.pipe()
        if not os.fork():
            said = []
            for use in (lambda: b.queue, lambda: queue.put("t", [b"x"]).send(None)):
                try:
                    use()
                except Exception as error:
                    said.append(type(error).__name__)
            os.write(write, json.dumps(said).encode())
            os._exit(0)
        os.close(write)
        say(os.read(read, 1000).decode())
        os.wait()
        await queue.put("t", [b"x"])  # the backend of the parent still works
        say("ok")
asyncio.run(main())
""")
    said, _ = await asyncio.to_thread(child.communicate, timeout=30)
    first, second = said.split("\n")[:2]
    assert json.loads(first) == ["ForkedError", "ForkedError"]
    assert second == "ok"
