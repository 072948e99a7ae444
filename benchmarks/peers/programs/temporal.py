"""Temporal's development server, which keeps its data in memory and is not what runs in production.

One worker with default settings, whose workflows run outside the sandbox.

Independent calls, the chain and the tree are workflows. The leaves of the fan-out, and the steps, are activities.
"""

import asyncio
import os
import sys
import uuid
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

from benchmarks.peers.driver import TOPIC, drive

BOUND = timedelta(minutes=10)


@activity.defn(name="leaf")
async def leaf(index: int) -> int:
    return index


def execute(index):
    return workflow.execute_activity(leaf, index, start_to_close_timeout=BOUND)


@workflow.defn(name="leaf", sandboxed=False)
class Leaf:
    @workflow.run
    async def run(self, index: int, run: str) -> int:
        return index


@workflow.defn(name="fan_out", sandboxed=False)
class FanOut:
    @workflow.run
    async def run(self, width: int, run: str) -> int:
        return sum(await asyncio.gather(*(execute(index) for index in range(width))))


@workflow.defn(name="steps", sandboxed=False)
class Steps:
    @workflow.run
    async def run(self, count: int, run: str) -> int:
        return sum([await execute(index) for index in range(count)])


@workflow.defn(name="chain", sandboxed=False)
class Chain:
    @workflow.run
    async def run(self, length: int, run: str) -> int:
        return 1 + await workflow.execute_child_workflow(Chain.run, args=[length - 1, run]) if length else 0


@workflow.defn(name="tree", sandboxed=False)
class Tree:
    @workflow.run
    async def run(self, depth: int, index: int, run: str) -> int:
        if depth == 0:
            return 1
        nodes = (2 * index, 2 * index + 1)
        children = [workflow.execute_child_workflow(Tree.run, args=[depth - 1, node, run]) for node in nodes]
        return sum(await asyncio.gather(*children))


async def work():
    workflows = [Leaf, FanOut, Steps, Chain, Tree]
    connection = await Client.connect(os.environ["BENCH_TEMPORAL"])
    await Worker(connection, task_queue=TOPIC, workflows=workflows, activities=[leaf]).run()


async def call(task, *arguments):
    return await client.execute_workflow(task, args=arguments, id=str(uuid.uuid4()), task_queue=TOPIC)


async def independent(count, run):
    return await asyncio.gather(*(call("leaf", index, run) for index in range(count)))


@asynccontextmanager
async def opened():
    global client
    client = await Client.connect(os.environ["BENCH_TEMPORAL"])
    yield


if __name__ == "__main__":
    if "worker" in sys.argv:
        asyncio.run(work())
    else:
        drive(call, independent, opened())
