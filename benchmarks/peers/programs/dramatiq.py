"""`RedisBroker` with the `Results` middleware on Redis. One process with the default of eight threads.

A parent of a fan-out, and the one of the steps, waits in its thread. Each message of the chain starts the next, and the
last pushes the value to Redis. In the tree, each node starts two, and the leaves count themselves in Redis.
"""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends.redis import RedisBackend

from benchmarks.peers.driver import TOPIC, drive
from benchmarks.peers.programs.finish import Finish, leaves

BOUND = 3_600_000

broker = RedisBroker(url=os.environ["BENCH_REDIS"])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["BENCH_REDIS"])))
dramatiq.set_broker(broker)
finish = Finish()


@dramatiq.actor(store_results=True, queue_name=TOPIC)
def leaf(index, run):
    return index


@dramatiq.actor(store_results=True, queue_name=TOPIC)
def fan_out(width, run):
    return sum(many(width, run))


@dramatiq.actor(store_results=True, queue_name=TOPIC)
def steps(count, run):
    return sum(leaf.send(index, run).get_result(block=True, timeout=BOUND) for index in range(count))


@dramatiq.actor(queue_name=TOPIC)
def chain(length, run, passed=0):
    if length:
        chain.send(length - 1, run, passed + 1)
    else:
        finish.store(run, passed)


@dramatiq.actor(queue_name=TOPIC)
def tree(depth, index, run):
    if depth:
        tree.send(depth - 1, 2 * index, run)
        tree.send(depth - 1, 2 * index + 1, run)
    else:
        finish.count(run, leaves(index))


def many(count, run):
    group = dramatiq.group([leaf.message(index, run) for index in range(count)]).run()
    return list(group.get_results(block=True, timeout=BOUND))


async def call(task, *arguments):
    message = broker.get_actor(task).send(*arguments)
    if task in ("chain", "tree"):
        return finish.wait(arguments[-1])
    return message.get_result(block=True, timeout=BOUND)


async def independent(count, run):
    return many(count, run)


if __name__ == "__main__":
    drive(call, independent)
