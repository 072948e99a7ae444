"""Workflows that cross between our workers and foreign ones, in both directions, many times over."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import brrr_core as brrr
from brrr_core.backend import Queue
from brrr_core.codec.json import JsonCodec
from brrr_core.wire import Failure, encode_failure
from tests.system.interop import foreign as foreign_python

OURS, THEIRS, SHARED = "ours", "theirs", "shared"
BOUND = 60.0


@brrr.handler
async def fib(app: brrr.ActiveWorker, n: int) -> int:
    return n if n < 2 else sum(await app.gather(app.call(fib)(n - 1), app.call(fib)(n - 2)))


@brrr.handler
async def ping(app: brrr.ActiveWorker, n: int, here: str, there: str) -> int:
    return 0 if n == 0 else 1 + await app.call(ping, topic=there)(n - 1, there, here)


@brrr.handler
async def fan(app: brrr.ActiveWorker, width: int, topic: str) -> int:
    return sum(await app.gather(*(app.call(leaf, topic=topic)(number) for number in range(width))))


@brrr.handler_no_arg
async def leaf(n: int) -> int:
    return n


@brrr.handler
async def patient(app: brrr.ActiveWorker, width: int, topic: str) -> int:
    await app.sleep(0.1)
    calls = (app.call(leaf, topic=topic, deadline="1h")(number) for number in range(width))
    return sum(await app.gather(*calls, app.event("bonus", width)))


@brrr.handler_no_arg
async def broken(n: int) -> int:
    raise brrr.TerminalError(f"no {n}")


HANDLERS = {"fib": fib, "ping": ping, "fan": fan, "leaf": leaf, "patient": patient, "broken": broken}


@asynccontextmanager
async def our_worker(server, topic: str) -> AsyncIterator[tuple[brrr.AppWorker, Queue]]:
    async with brrr.serve(f"{server.url}?sweep=100ms") as connection:
        app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection)
        loop = asyncio.create_task(connection.loop(topic, app.handle, concurrency=16))
        try:
            yield app, connection.queue
        finally:
            loop.cancel()
            await asyncio.wait({loop})


async def none_left(queue, server, *topics):
    """Assert that all messages were handled, none is dead, and no parent waits for a call without a value."""
    async with asyncio.timeout(BOUND):
        for topic in topics:
            while any((await queue.stats(topic))[:3]):  # noqa: ASYNC110 - polling is the only way
                await asyncio.sleep(0.01)
            assert await queue.dead(topic, limit=1) == []
    waited_for = {key.rpartition(b":")[2] for key in server.do("KEYS", "brrr:pending_returns:*")}
    assert waited_for <= {key.rpartition(b":")[2] for key in server.do("KEYS", "brrr:value:*")}


async def test_workers_of_two_sdks_share_one_topic(foreign_worker, server):
    async with foreign_worker(SHARED), foreign_worker(SHARED), our_worker(server, SHARED) as (app, queue):
        for n in range(2, 30):
            await app.schedule(fib, topic=SHARED)(n)
            assert await app.result(fib, timeout=BOUND)(n) == fibonacci(n)
        await none_left(queue, server, SHARED)


def fibonacci(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


@pytest.mark.parametrize(("here", "there"), [(OURS, THEIRS), (THEIRS, OURS)])
async def test_chain_crosses_with_every_call(foreign_worker, server, here, there):
    async with foreign_worker(THEIRS), our_worker(server, OURS) as (app, queue):
        await app.schedule(ping, topic=here)(60, here, there)
        assert await app.result(ping, timeout=BOUND)(60, here, there) == 60
        await none_left(queue, server, OURS, THEIRS)


@pytest.mark.parametrize(("parent", "children"), [(OURS, THEIRS), (THEIRS, OURS)])
async def test_parent_has_its_children_on_the_other_side(foreign_worker, server, parent, children):
    async with foreign_worker(THEIRS), our_worker(server, OURS) as (app, queue):
        for width in range(1, 40):
            await app.schedule(fan, topic=parent)(width, children)
        for width in range(1, 40):
            assert await app.result(fan, timeout=BOUND)(width, children) == sum(range(width))
        await none_left(queue, server, OURS, THEIRS)


async def test_redrive_finds_calls_that_a_foreign_worker_lost(foreign_worker, server):
    async with our_worker(server, OURS) as (app, _):
        await app.schedule(fan, topic=OURS)(5, THEIRS)
        async with asyncio.timeout(BOUND):
            while server.do("LLEN", THEIRS) < 5:  # noqa: ASYNC110 - polling is the only way
                await asyncio.sleep(0.01)
        server.do("DEL", THEIRS)  # as if a plain consumer had taken them and died
        async with foreign_worker(THEIRS):
            await app.schedule(fan, topic=OURS, redrive=True)(5, THEIRS)
            assert await app.result(fan, timeout=BOUND)(5, THEIRS) == 10


async def test_immediate_second_redrive_finds_messages_that_a_foreign_worker_lost_again(foreign_worker, server):
    async with our_worker(server, OURS) as (app, queue):
        for redrive in (False, True):
            await app.schedule(fan, topic=OURS, redrive=redrive)(5, THEIRS)
            async with asyncio.timeout(BOUND):
                while server.do("LLEN", THEIRS) < 5:  # noqa: ASYNC110 - polling is the only way
                    await asyncio.sleep(0.01)
            server.do("DEL", THEIRS)
        async with foreign_worker(THEIRS):
            await app.schedule(fan, topic=OURS, redrive=True)(5, THEIRS)
            assert await app.result(fan, timeout=BOUND)(5, THEIRS) == 10
            await none_left(queue, server, OURS, THEIRS)


async def test_foreign_workers_honour_a_schedule_s_own_limit(foreign_worker, server):
    """They refuse at a count of 10,000: the counter of a schedule with a limit of 30,000 begins 20,000 below 0."""
    async with our_worker(server, OURS) as (app, queue):
        scheduled = await app.schedule(fan, topic=THEIRS, spawn_limit=30_000)(5, OURS)
        counter = f"brrr_count/{scheduled.root_id}"
        assert int(server.do("GET", counter)) == 10_000 - 30_000 + 1
        server.do("INCRBY", counter, 25_000)  # as if it had caused this number of messages
        async with foreign_worker(THEIRS):
            assert await app.result(fan, timeout=BOUND)(5, OURS) == 10
            await none_left(queue, server, OURS, THEIRS)


async def test_limit_of_a_schedule_may_be_low(server):
    server.do("FLUSHALL")
    async with our_worker(server, OURS) as (app, _):
        scheduled = await app.schedule(leaf, topic=THEIRS, spawn_limit=3)(1)
        assert int(server.do("GET", f"brrr_count/{scheduled.root_id}")) == 10_000 - 3 + 1


async def test_parent_that_waits_has_children_on_the_other_side(foreign_worker, server):
    async with foreign_worker(THEIRS), our_worker(server, OURS) as (app, _):
        await app.schedule(patient, topic=OURS)(5, THEIRS)
        await app.event("bonus", 5).complete(100)
        assert await app.result(patient, timeout=BOUND)(5, THEIRS) == 110


async def test_foreign_worker_replaces_a_failure(foreign_worker, server):
    async with our_worker(server, OURS) as (app, queue), brrr.connect(server.url) as connection:
        scheduled = await app.schedule(leaf, topic=THEIRS)(5)
        assert await connection.settle(scheduled.call_hash, encode_failure(Failure("TerminalError", "no 5")))
        with pytest.raises(brrr.CallFailedError):
            await app.read(leaf)(5)
        async with foreign_worker(THEIRS):  # it reads no value before it runs a call, and writes without a condition
            await none_left(queue, server, THEIRS)
            assert await app.read(leaf)(5) == 5


async def test_foreign_worker_fails_on_the_failure_of_a_child(foreign, server):
    server.do("FLUSHALL")
    async with our_worker(server, OURS) as (app, _):
        await app.schedule(broken, topic=OURS)(0)
        with pytest.raises(brrr.CallFailedError):
            await app.result(broken, timeout=BOUND)(0)
        record = server.do("GET", f"brrr:value:{foreign_python.encode('broken', [0])[0]}")
        server.do("SET", f"brrr:value:{foreign_python.encode('leaf', [0])[0]}", record)
        await app.schedule(fan, topic=THEIRS)(1, OURS)
        worker = await asyncio.create_subprocess_exec(*foreign, str(server.port), THEIRS, stderr=subprocess.PIPE)
        _, errors = await asyncio.wait_for(worker.communicate(), BOUND)
        assert worker.returncode
        assert re.search(rb"UnicodeDecodeError|SyntaxError", errors)
        with pytest.raises(brrr.NotFoundError):
            await app.read(fan)(1, OURS)


CALLS = [
    ("fib", [11]),
    ("ping", [3, "ours", "theirs"]),
    ("x", []),
    ("x", [{"b": 1, "a": [None, True, "é☃🦆", 1.5, -0.25]}]),
    ("é", [[]]),
]


def test_call_hashes_agree_with_python_s():
    for name, args in CALLS:
        ours = JsonCodec().encode_call(name, args, {})
        assert (ours.call_hash, ours.payload) == foreign_python.encode(name, args)


def test_call_hashes_agree_with_javascript_s(javascript):
    node, worker = javascript
    script = f"""
        import {{ encode }} from {json.dumps(str(Path(worker).with_name("calls.js")))};
        const calls = {json.dumps(CALLS)}.map(([name, args]) => encode(name, args));
        console.log(JSON.stringify(calls.map(({{ hash, payload }}) => [hash, payload.toString()])));
    """
    done = subprocess.run([node, "--input-type=module", "-e", script], capture_output=True, text=True, check=True)

    ours = [JsonCodec().encode_call(name, args, {}) for name, args in CALLS]
    assert json.loads(done.stdout) == [[call.call_hash, call.payload.decode()] for call in ours]
