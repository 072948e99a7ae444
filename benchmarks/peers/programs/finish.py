"""How a task of a plain queue ends a graph of tasks: it counts in Redis, and the last one pushes the value to a list.

A plain queue has no parent that waits durably. This is the quickest substitute: nothing waits, except the client.
"""

import os

import redis
import redis.asyncio

_URL = os.environ["BENCH_REDIS"]


def leaves(index):
    """Return the number of leaves of the tree that has a leaf with this index."""
    return 2 ** (index.bit_length() - 1)


class Finish:
    """For synchronous programs."""

    def __init__(self):
        self._redis = redis.Redis.from_url(_URL, socket_timeout=None)

    def store(self, run, value):
        self._redis.rpush(f"done:{run}", value)

    def count(self, run, total):
        if self._redis.incr(f"count:{run}") == total:
            self.store(run, total)

    def wait(self, run):
        return int(self._redis.blpop(f"done:{run}")[1])


class AsyncFinish:
    """For asynchronous programs."""

    def __init__(self):
        self._redis = redis.asyncio.Redis.from_url(_URL, socket_timeout=None)

    async def store(self, run, value):
        await self._redis.rpush(f"done:{run}", value)

    async def count(self, run, total):
        if await self._redis.incr(f"count:{run}") == total:
            await self.store(run, total)

    async def wait(self, run):
        return int((await self._redis.blpop(f"done:{run}"))[1])
