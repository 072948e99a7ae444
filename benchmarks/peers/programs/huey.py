"""`RedisHuey` with `notify_result=True`, so that a result wakes the program that waits for it.

The consumer has four threads. A task leaves the queue when it is read, so a crash loses it.

A parent of a fan-out, and the one of the steps, waits in its thread. Each task of the chain starts the next, and the
last pushes the value to Redis. In the tree, each node starts two, and the leaves count themselves in Redis.
"""

import os

from huey import RedisHuey

from benchmarks.peers.driver import TOPIC, drive
from benchmarks.peers.programs.finish import Finish, leaves

app = RedisHuey(TOPIC, url=os.environ["BENCH_REDIS"], notify_result=True)
finish = Finish()


@app.task()
def leaf(index, run):
    return index


@app.task()
def fan_out(width, run):
    return sum(leaf.map([(index, run) for index in range(width)]).get(blocking=True))


@app.task()
def steps(count, run):
    return sum(leaf(index, run).get(blocking=True) for index in range(count))


@app.task()
def chain(length, run, passed=0):
    if length:
        chain(length - 1, run, passed + 1)
    else:
        finish.store(run, passed)


@app.task()
def tree(depth, index, run):
    if depth:
        tree(depth - 1, 2 * index, run)
        tree(depth - 1, 2 * index + 1, run)
    else:
        finish.count(run, leaves(index))


async def call(task, *arguments):
    result = globals()[task](*arguments)
    return finish.wait(arguments[-1]) if task in ("chain", "tree") else result.get(blocking=True)


async def independent(count, run):
    return leaf.map([(index, run) for index in range(count)]).get(blocking=True)


if __name__ == "__main__":
    from benchmarks.peers.programs import huey as program  # the consumer knows the tasks by the name of this module

    drive(program.call, program.independent)
