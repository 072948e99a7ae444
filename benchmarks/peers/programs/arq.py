"""One worker with 64 concurrent jobs. Worker and programs poll every 10 ms; the default is 500 ms.

A parent of a fan-out, and the one of the steps, waits in its job. Each job of the chain starts the next, and the last
pushes the value to Redis. In the tree, each node starts two, and the leaves count themselves in Redis.
"""

import asyncio
import os
from contextlib import asynccontextmanager

from arq import create_pool
from arq.connections import RedisSettings

from benchmarks.peers.driver import drive
from benchmarks.peers.programs.finish import AsyncFinish, leaves

POLL = 0.01

finish = AsyncFinish()


async def leaf(context, index, run):
    return index


async def fan_out(context, width, run):
    return sum(await many(context["redis"], width, run))


async def steps(context, count, run):
    return sum([await value(context["redis"], "leaf", index, run) for index in range(count)])


async def chain(context, length, run, passed=0):
    if length:
        await context["redis"].enqueue_job("chain", length - 1, run, passed + 1)
    else:
        await finish.store(run, passed)


async def tree(context, depth, index, run):
    if depth:
        await context["redis"].enqueue_job("tree", depth - 1, 2 * index, run)
        await context["redis"].enqueue_job("tree", depth - 1, 2 * index + 1, run)
    else:
        await finish.count(run, leaves(index))


class WorkerSettings:
    functions = (leaf, fan_out, steps, chain, tree)
    redis_settings = RedisSettings.from_dsn(os.environ["BENCH_REDIS"])
    max_jobs = 64
    poll_delay = POLL


async def value(pool, task, *arguments):
    return await (await pool.enqueue_job(task, *arguments)).result(poll_delay=POLL)


async def many(pool, count, run):
    jobs = await asyncio.gather(*(pool.enqueue_job("leaf", index, run) for index in range(count)))
    return [await job.result(poll_delay=POLL) for job in jobs]


async def call(task, *arguments):
    if task in ("chain", "tree"):
        await pool.enqueue_job(task, *arguments)
        return await finish.wait(arguments[-1])
    return await value(pool, task, *arguments)


async def independent(count, run):
    return await many(pool, count, run)


@asynccontextmanager
async def opened():
    global pool
    pool = await create_pool(WorkerSettings.redis_settings)
    try:
        yield
    finally:
        await pool.aclose()


if __name__ == "__main__":
    drive(call, independent, opened())
