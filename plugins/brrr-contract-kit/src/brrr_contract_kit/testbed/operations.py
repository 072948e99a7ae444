"""Operations that several rules run: one use of each role, every operation by its name, and delayed messages."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import cycle, islice
from typing import TypeVar

from brrr_contract_kit.testbed.checks import check, equal, refused
from brrr_contract_kit.testbed.context import Context, StalledError
from brrr_core.backend import Backend, Delivery, Key, Message, Queue, Roles, Step, Swap
from brrr_core.errors import BackendUnavailableError, RuleBrokenError

__all__ = [
    "delays_end",
    "leave_delayed",
    "operations_of",
    "put_and_release",
    "repeated",
    "unless_unavailable",
    "use",
]

ResultT = TypeVar("ResultT")


def operations_of(
    roles: Roles, *, topic: str, key: Key, counter: str, held: Sequence[Delivery]
) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return the operations of the offered roles by their names, none of them begun.

    Args:
        roles: The roles, open or closed.
        topic: The topic of the operations on a queue.
        key: The key of the operations on a store.
        counter: The counter to increase.
        held: Deliveries to settle, if there is a queue: one for each of ack, release, extend and bury, or one for all.
    """
    operations: dict[str, Callable[[], Awaitable[object]]] = {}
    if (queue := roles.queue) is not None:
        ack, release, extend, bury = islice(cycle(held), 4)
        operations |= {
            "put": partial(queue.put, topic, [b"x"]),
            "receive": partial(queue.receive, topic, limit=1, wait=0),
            "ack": partial(queue.ack, [ack]),
            "release": partial(queue.release, [release]),
            "extend": partial(queue.extend, [extend]),
            "bury": partial(queue.bury, bury, "a reason"),
            "stats": partial(queue.stats, topic),
            "dead": partial(queue.dead, topic, limit=1),
            "redrive": partial(queue.redrive, topic, limit=1),
            "drop": partial(queue.drop, topic, limit=1),
        }
    if (store := roles.store) is not None:
        operations |= {
            "read": partial(store.read, [key]),
            "write": partial(store.write, [(key, b"x")]),
            "swap": partial(store.swap, [Swap(key, None, b"x")]),
        }
    if (cache := roles.cache) is not None:
        operations |= {"increment": partial(cache.increment, {counter: 1})}
    if (steps := roles.steps) is not None:
        operations |= {
            "receive of steps": partial(steps.receive, topic, limit=1, wait=0, readings=()),
            "commit": partial(steps.commit, [Step([(key, b"x")], messages=[Message(topic, b"x")])]),
        }
    return operations


async def use(ctx: Context, backend: Backend) -> None:
    """Use each role that the backend offers."""
    if backend.roles.queue is not None:
        topic = ctx.topic()
        await backend.queue.put(topic, [b"used"])
        found = await backend.queue.receive(topic, limit=1, wait=ctx.grace)
        equal([each.body for each in found], [b"used"], "the messages of an open queue")
        await backend.queue.ack(found)
    if backend.roles.store is not None:
        key = ctx.key()
        await backend.store.write([(key, b"used")])
        equal(await backend.store.read([key]), [b"used"], "the record of an open store")
    if backend.roles.cache is not None:
        name = ctx.counter()
        equal(await backend.cache.increment({name: 1}), {name: 1}, "the counter of an open cache")


async def unless_unavailable(operation: Awaitable[ResultT], what: str) -> list[ResultT]:
    """Return a list with the result of an operation, which is empty if it raises `BackendUnavailableError`."""
    try:
        return [await operation]
    except (RuleBrokenError, StalledError):
        raise
    except Exception as error:  # noqa: BLE001 - the next line checks its type
        refused(error, BackendUnavailableError, f"if it raises, {what}")
        return []


async def repeated(ctx: Context, operation: Callable[[], Awaitable[ResultT]], what: str) -> ResultT:
    """Return the result of an operation, which is repeated while it raises `BackendUnavailableError`."""
    results: list[ResultT] = []

    async def succeeds() -> bool:
        results.extend(await unless_unavailable(operation(), what))
        return bool(results)

    await ctx.until(succeeds, f"{what} succeeds")
    return results[0]


async def put_and_release(queue: Queue, topic: str, delay: float, *, wait: float) -> None:
    """Leave two delayed messages on the topic: one was put with the delay, and the other one released with it."""
    await queue.put(topic, [b"released"])
    found = await queue.receive(topic, limit=1, wait=wait)
    check(len(found) == 1, f"a message that was just put did not arrive within {wait:g} s")
    await queue.release(found, delay=delay)
    await queue.put(topic, [b"put"], delay=delay)


async def leave_delayed(ctx: Context, queue: Queue, topic: str, delay: float) -> None:
    """Leave two delayed messages from this process."""
    await put_and_release(queue, topic, delay, wait=ctx.grace)


async def delays_end(ctx: Context, queue: Queue, topic: str, delay: float) -> None:
    """Check that both messages arrive when their delay is over."""
    found = await ctx.take_all(queue, topic, 2, within=delay + ctx.grace, ack=True)
    seen = sorted((each.body, each.attempt) for each in found)
    equal(seen, [(b"put", 1), (b"released", 2)], "body and attempt of the messages whose delay is over")
