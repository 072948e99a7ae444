"""Broker and result backend are Redis, and one prefork child runs tasks.

The prefetch multiplier is 64, as the guide "Optimizing" advises for short tasks. Tasks are acknowledged early, the
default, so a crash loses them. A fan-out is a chord, and the steps are a chain of signatures, since Celery advises
against waiting in a task. Each task of the chain starts the next, and the last pushes the value to Redis. In the tree,
each node starts two, and the leaves count themselves in Redis.
"""

import os

from celery import Celery, chord, group
from celery import chain as sequence

from benchmarks.peers.driver import TOPIC, drive
from benchmarks.peers.programs.finish import Finish, leaves

app = Celery(TOPIC, broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
app.conf.update(
    worker_prefetch_multiplier=64,
    task_default_queue=TOPIC,
    broker_connection_retry_on_startup=True,
    worker_concurrency=1,
)
finish = Finish()


@app.task(name="leaf")
def leaf(index, run):
    return index


@app.task(name="total")
def total(values):
    return sum(values)


@app.task(name="fan_out", bind=True)
def fan_out(self, width, run):
    return self.replace(chord(group(leaf.s(index, run) for index in range(width)), total.s()))


@app.task(name="step")
def step(before, index):
    return before + index


@app.task(name="steps", bind=True)
def steps(self, count, run):
    return self.replace(sequence(step.s(0, 0), *(step.s(index) for index in range(1, count))))


@app.task(name="chain", ignore_result=True)
def chain(length, run, passed=0):
    if length:
        chain.delay(length - 1, run, passed + 1)
    else:
        finish.store(run, passed)


@app.task(name="tree", ignore_result=True)
def tree(depth, index, run):
    if depth:
        tree.delay(depth - 1, 2 * index, run)
        tree.delay(depth - 1, 2 * index + 1, run)
    else:
        finish.count(run, leaves(index))


async def call(task, *arguments):
    result = app.tasks[task].delay(*arguments)
    return finish.wait(arguments[-1]) if task in ("chain", "tree") else result.get()


async def independent(count, run):
    results = [leaf.delay(index, run) for index in range(count)]
    return [result.get() for result in results]


if __name__ == "__main__":
    drive(call, independent)
