"""One worker with a concurrency of 64, and hiredis. Programs ask for a result every 10 ms; the default is 500 ms.

`apply` and `map`, with which programs wait as in SAQ's README, sleep once more after the last result. A parent of a
fan-out, and the one of the steps, waits in its job. Each job of the chain starts the next, and the last pushes the
value to Redis. In the tree, each node starts two, and the leaves count themselves in Redis. A worker sweeps stuck jobs
before it takes the first one, and not again: SAQ's sweep aborts a job that was taken and is not yet marked as active
([issue 277](https://github.com/tobymao/saq/issues/277), not mended in 0.26.4).
"""

import os
from contextlib import asynccontextmanager

from saq import Queue

from benchmarks.peers.driver import TOPIC, drive
from benchmarks.peers.programs.finish import AsyncFinish, leaves

POLL = 0.01

queue = Queue.from_url(os.environ["BENCH_REDIS"], name=TOPIC)
finish = AsyncFinish()


async def leaf(context, *, arguments):
    return arguments[0]


async def fan_out(context, *, arguments):
    return sum(await independent(*arguments))


async def steps(context, *, arguments):
    count, run = arguments
    return sum([await call("leaf", index, run) for index in range(count)])


async def chain(context, *, arguments):
    length, run, *passed = arguments
    passed = sum(passed)
    if length:
        await queue.enqueue("chain", arguments=[length - 1, run, passed + 1], timeout=0)
    else:
        await finish.store(run, passed)


async def tree(context, *, arguments):
    depth, index, run = arguments
    if depth:
        await queue.enqueue("tree", arguments=[depth - 1, 2 * index, run], timeout=0)
        await queue.enqueue("tree", arguments=[depth - 1, 2 * index + 1, run], timeout=0)
    else:
        await finish.count(run, leaves(index))


async def sweep_first(context):
    await queue.sweep(lock=3600)


settings = {
    "queue": queue,
    "functions": [leaf, fan_out, steps, chain, tree],
    "concurrency": 64,
    "startup": sweep_first,
}


async def call(task, *arguments):
    if task in ("chain", "tree"):
        await queue.enqueue(task, arguments=arguments, timeout=0)
        return await finish.wait(arguments[-1])
    return await queue.apply(task, arguments=arguments, poll_interval=POLL)


async def independent(count, run):
    each = [{"arguments": [index, run]} for index in range(count)]
    return await queue.map("leaf", each, poll_interval=POLL)


@asynccontextmanager
async def opened():
    await queue.connect()
    try:
        yield
    finally:
        await queue.disconnect()


if __name__ == "__main__":
    drive(call, independent, opened())
