"""`RedisStreamBroker` with `RedisAsyncResultBackend`, as in the README of taskiq-redis: tasks are acknowledged.

One worker process with the default of 100 concurrent tasks. Programs ask for a result every 10 ms;
the default is 200 ms.

A parent of a fan-out, and the one of the steps, waits in its task. Each task of the chain starts the next, and the last
pushes the value to Redis. In the tree, each node starts two, and the leaves count themselves in Redis.
"""

import asyncio
import os
from contextlib import asynccontextmanager

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.peers.driver import TOPIC, drive
from benchmarks.peers.programs.finish import AsyncFinish, leaves

POLL = 0.01

broker = RedisStreamBroker(url=os.environ["BENCH_REDIS"], queue_name=TOPIC).with_result_backend(
    RedisAsyncResultBackend(redis_url=os.environ["BENCH_REDIS"])
)
finish = AsyncFinish()


@broker.task(task_name="leaf")
async def leaf(index: int, run: str) -> int:
    return index


@broker.task(task_name="fan_out")
async def fan_out(width: int, run: str) -> int:
    return sum(await independent(width, run))


@broker.task(task_name="steps")
async def steps(count: int, run: str) -> int:
    total = 0
    for index in range(count):
        total += await value(await leaf.kiq(index, run))
    return total


@broker.task(task_name="chain")
async def chain(length: int, run: str, passed: int = 0) -> None:
    if length:
        await chain.kiq(length - 1, run, passed + 1)
    else:
        await finish.store(run, passed)


@broker.task(task_name="tree")
async def tree(depth: int, index: int, run: str) -> None:
    if depth:
        await tree.kiq(depth - 1, 2 * index, run)
        await tree.kiq(depth - 1, 2 * index + 1, run)
    else:
        await finish.count(run, leaves(index))


async def value(started):
    return (await started.wait_result(check_interval=POLL)).return_value


async def call(task, *arguments):
    started = await broker.find_task(task).kiq(*arguments)
    return await (finish.wait(arguments[-1]) if task in ("chain", "tree") else value(started))


async def independent(count, run):
    started = await asyncio.gather(*(leaf.kiq(index, run) for index in range(count)))
    return [await value(each) for each in started]


@asynccontextmanager
async def opened():
    await broker.startup()
    try:
        yield
    finally:
        await broker.shutdown()


if __name__ == "__main__":
    drive(call, independent, opened())
