"""The worker dequeues asynchronous workflows from one queue, without a limit of concurrency.

The client is a `DBOSClient`. It polls for results every 10 ms, and the worker every 50 ms for results and its queue;
the default is 1 s. The children of a fan-out and of the tree are workflows on the queue. Those of the chain start in
the process of their parent. The steps are DBOS steps, which is how DBOS stores sequential work, and which run in the
process of their workflow. All parents of the shared child enqueue it with the same workflow id.
"""

import asyncio
import os
import sys
from contextlib import asynccontextmanager, suppress

from dbos import DBOS, DBOSClient, SetWorkflowID
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.peers.driver import TOPIC, drive

CLIENT_POLL = 0.01
WORKER_POLL = 0.05
URL = os.environ["BENCH_DATABASE"]


@DBOS.step()
async def step(index):
    return index


@DBOS.workflow(name="leaf")
async def leaf(index, run):
    return index


@DBOS.workflow(name="fan_out")
async def fan_out(width, run):
    return await total([await DBOS.enqueue_workflow_async(TOPIC, leaf, index, run) for index in range(width)])


@DBOS.workflow(name="steps")
async def steps(count, run):
    return sum([await step(index) for index in range(count)])


@DBOS.workflow(name="chain")
async def chain(length, run):
    if length == 0:
        return 0
    return 1 + await total([await DBOS.start_workflow_async(chain, length - 1, run)])


@DBOS.workflow(name="tree")
async def tree(depth, index, run):
    if depth == 0:
        return 1
    nodes = (2 * index, 2 * index + 1)
    return await total([await DBOS.enqueue_workflow_async(TOPIC, tree, depth - 1, node, run) for node in nodes])


@DBOS.workflow(name="sharer")
async def sharer(index, run):
    with SetWorkflowID(f"shared-{run}"):
        child = await DBOS.enqueue_workflow_async(TOPIC, leaf, 0, run)
    return index + await total([child])


@DBOS.workflow(name="shared_child")
async def shared_child(parents, run):
    return await total([await DBOS.enqueue_workflow_async(TOPIC, sharer, index, run) for index in range(parents)])


async def total(handles):
    return sum([await handle.get_result(polling_interval_sec=WORKER_POLL) for handle in handles])


@asynccontextmanager
async def opened():
    """Wait until the worker has created the tables and the queue."""
    while True:
        with suppress(SQLAlchemyError):
            if await client.retrieve_queue_async(TOPIC):
                break
        await asyncio.sleep(0.05)
    yield
    client.destroy()


async def work():
    name = f"worker-{os.getpid()}"
    DBOS(config={"name": TOPIC, "system_database_url": URL, "executor_id": name, "log_level": "ERROR"})
    DBOS.launch()
    await DBOS.register_queue_async(TOPIC, polling_interval_sec=WORKER_POLL)
    await asyncio.Event().wait()


async def start(task, *arguments):
    return await client.enqueue_async({"workflow_name": task, "queue_name": TOPIC}, *arguments)


async def call(task, *arguments):
    return await (await start(task, *arguments)).get_result(polling_interval_sec=CLIENT_POLL)


async def independent(count, run):
    handles = await asyncio.gather(*(start("leaf", index, run) for index in range(count)))
    return [await handle.get_result(polling_interval_sec=CLIENT_POLL) for handle in handles]


if __name__ == "__main__":
    if "worker" in sys.argv:
        asyncio.run(work())
    else:
        client = DBOSClient(system_database_url=URL, lazy=True)
        drive(call, independent, opened())
