"""Operations of all roles of a backend: one use of each role, and every operation by its name."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import cycle, islice
from typing import TypeVar

from brrr_contract_kit.testbed.checks import equal, refused
from brrr_contract_kit.testbed.context import Context, StalledError
from brrr_core.backend import Backend, Delivery, Key, Message, Roles, Step, Swap
from brrr_core.errors import BackendUnavailableError, RuleBrokenError

__all__ = ["operations_of", "repeated", "unless_unavailable", "use"]

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
        refused(error, BackendUnavailableError, f"{what} may raise, and then")
        return []


async def repeated(ctx: Context, operation: Callable[[], Awaitable[ResultT]], what: str) -> ResultT:
    """Return the result of an operation, which is repeated while it raises `BackendUnavailableError`."""
    results: list[ResultT] = []

    async def succeeds() -> bool:
        results.extend(await unless_unavailable(operation(), what))
        return bool(results)

    await ctx.until(succeeds, f"{what} succeeds")
    return results[0]
