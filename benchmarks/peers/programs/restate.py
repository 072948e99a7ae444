"""A server with its default settings, and one service behind Hypercorn as Restate recommends for production.

The client calls the ingress over HTTP, on 64 connections. The server stores each call and result on disk.

Children are calls of handlers, in the steps too. All parents of the shared child call it with the same idempotency key.
"""

import asyncio
import os
from contextlib import asynccontextmanager

import httpx
import restate

from benchmarks.peers.driver import TOPIC, drive

CONNECTIONS = 64

service = restate.Service(TOPIC)


@service.handler()
async def leaf(context: restate.Context, arguments: list) -> int:
    return arguments[0]


@service.handler()
async def fan_out(context: restate.Context, arguments: list) -> int:
    width, run = arguments
    return await total([context.service_call(leaf, [index, run]) for index in range(width)])


@service.handler()
async def steps(context: restate.Context, arguments: list) -> int:
    count, run = arguments
    return sum([await context.service_call(leaf, [index, run]) for index in range(count)])


@service.handler()
async def chain(context: restate.Context, arguments: list) -> int:
    length, run = arguments
    return 1 + await context.service_call(chain, [length - 1, run]) if length else 0


@service.handler()
async def tree(context: restate.Context, arguments: list) -> int:
    depth, index, run = arguments
    if depth == 0:
        return 1
    return await total([context.service_call(tree, [depth - 1, node, run]) for node in (2 * index, 2 * index + 1)])


@service.handler()
async def sharer(context: restate.Context, arguments: list) -> int:
    index, run = arguments
    return index + await context.service_call(leaf, [0, run], idempotency_key=run)


@service.handler()
async def shared_child(context: restate.Context, arguments: list) -> int:
    parents, run = arguments
    return await total([context.service_call(sharer, [index, run]) for index in range(parents)])


app = restate.app([service])


async def total(futures):
    await restate.gather(*futures)
    return sum([await future for future in futures])


async def call(task, *arguments):
    answer = await ingress.post(f"/{TOPIC}/{task}", json=arguments)
    answer.raise_for_status()
    return answer.json()


async def independent(count, run):
    limit = asyncio.Semaphore(CONNECTIONS)

    async def each(index):
        async with limit:
            return await call("leaf", index, run)

    return await asyncio.gather(*map(each, range(count)))


@asynccontextmanager
async def opened():
    """Register the service when it answers, and open the client."""
    global ingress
    uri = f"http://127.0.0.1:{os.environ['BENCH_RESTATE_PORT']}"
    async with httpx.AsyncClient(base_url=os.environ["BENCH_RESTATE_ADMIN"], timeout=60) as admin:
        while (await admin.post("/deployments", json={"uri": uri, "force": True})).is_error:  # noqa: ASYNC110 - HTTP has no event
            await asyncio.sleep(0.05)
    async with httpx.AsyncClient(base_url=os.environ["BENCH_RESTATE_INGRESS"], timeout=None) as ingress:
        yield


if __name__ == "__main__":
    drive(call, independent, opened())
