"""Rules ANSWER: the server executes an operation, and its answer is lost.

A relay cuts the connection instead of forwarding an answer: the first one, in the next attempt the second one, and so
on, until an operation has no more answers. So the rules lose each answer of an operation that needs several. In one
attempt of most rules, the connection falls silent instead, so that the operation reaches its timeout.
"""

from asyncio import sleep
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.checks import broken, check, equal, same_bodies, shown
from brrr_contract_kit.testbed.context import Context, StalledError
from brrr_contract_kit.testbed.operations import repeated, unless_unavailable
from brrr_contract_kit.testbed.stepped import steps_of
from brrr_core.backend import Count, Delivery, Message, Queue, Step, Swap

BODIES: Final = (b"first", b"second", b"third")


@rule("CACHE-ANSWER-01")
async def counts_once(ctx: Context) -> None:
    """If the answer to an increment is lost, the increment counts once or raises; it never counts twice.

    Why: The spawn limit is exact. A call that counts twice ends a workflow too early.

    Test: Counters are increased through a relay that loses each answer. The new counts must be those of one increment.
    If `BackendUnavailableError` is raised, each counter may also be unchanged.
    """
    network = await ctx.network()
    cache, direct = (await network.opened(short_timeouts=True)).cache, await ctx.cache()

    async def attempt() -> None:
        amounts = {ctx.counter(): amount for amount in (1, 2, 3)}
        results = await unless_unavailable(cache.increment(amounts), "an increment whose answer is lost")
        seen = await direct.increment(dict.fromkeys(amounts, 0))
        for result in results:
            equal(result, amounts, "the counters that an increment returned whose answer was lost")
        for name, amount in amounts.items():
            allowed = (amount,) if results else (0, amount)
            check(seen[name] in allowed, f"an increment by {amount}, whose answer was lost, counted {seen[name]}")

    await network.lose_each_answer(attempt, silently=True)


@rule("STORE-ANSWER-01")
async def reports_no_false_swap(ctx: Context) -> None:
    """If the answer to a swap is lost, the swap reports the truth or raises; it never reports a false loss or win.

    Why: A worker that believes that it has lost drops work that only it can do, and the call hangs. Two workers that
    both believe that they have won both continue.

    Test: Swaps that create, replace, delete and verify, and swaps that must lose against an equal record and against
    another one, pass a relay that loses each answer. If `BackendUnavailableError` is raised, each record may be old or
    new.
    """
    network = await ctx.network()
    store, direct = (await network.opened(short_timeouts=True)).store, await ctx.store()
    cases: list[tuple[bytes | None, bytes | None, bytes | None]] = [  # the record, and what the swap expects and sets
        (None, None, b"new"),
        (b"old", b"old", b"new"),
        (b"old", b"old", None),
        (b"old", b"old", b"old"),
        (b"new", None, b"new"),
        (b"other", b"old", b"new"),
    ]

    async def attempt() -> None:
        keys = [ctx.key() for _ in cases]
        pairs = [*zip(keys, cases, strict=True)]
        await direct.write([(key, record) for key, (record, _, _) in pairs if record is not None])
        swaps = [Swap(key, expected, new) for key, (_, expected, new) in pairs]
        results = await unless_unavailable(store.swap(swaps), "a swap whose answer is lost")
        wins = [record == expected for record, expected, _ in cases]
        seen = await direct.read(keys)
        for number, (record, _, new) in enumerate(cases):
            what = f"a swap of {shown(record)} by {swaps[number][1:]}, whose answer was lost,"
            for result in results:
                equal(result[number], wins[number], f"the result of {what}")
            allowed = [new] if wins[number] else [record]
            if not results:
                allowed.append(record)
            check(seen[number] in allowed, f"{what} left {shown(seen[number])}")

    await network.lose_each_answer(attempt, silently=True)


@rule("QUEUE-ANSWER-01")
async def put_loses_nothing(ctx: Context) -> None:
    """If the answer to a put is lost, the put raises, or every message is delivered, perhaps more than once.

    Why: A call whose message is lost hangs. A duplicate message is harmless.

    Test: Batches are put through a relay that loses each answer. If the put returned, another backend receives all.
    """
    network = await ctx.network()
    queue, direct = (await network.opened(short_timeouts=True)).queue, await ctx.queue()

    async def attempt() -> None:
        topic = ctx.topic()
        if await unless_unavailable(queue.put(topic, BODIES), "a put whose answer is lost"):
            await _arrive(ctx, direct, topic, BODIES, "a put whose answer was lost")

    await network.lose_each_answer(attempt, silently=True)


async def _arrive(
    ctx: Context, queue: Queue, topic: str, bodies: Sequence[bytes], after: str, *, lease: float = 0
) -> None:
    """Check that each body arrives at least once, within a lease if it may be leased, and acknowledge it."""
    missing = {*bodies}

    async def all_came() -> bool:
        found = await ctx.take(queue, topic, limit=10, wait=min(0.5, ctx.grace))
        await queue.ack(found)
        missing.difference_update(each.body for each in found)
        return not missing

    try:
        await ctx.until(all_came, "", within=lease + ctx.grace)
    finally:
        check(not missing, f"after {after}, messages are lost: {sorted(missing)}")


@rule("QUEUE-ANSWER-02", limit=120)
async def receive_loses_nothing(ctx: Context) -> None:
    """If the answer to a receive is lost, the messages come back when their lease expires.

    Why: The server has leased them to a receiver that never gets them.

    Test: Messages are received through a relay that loses each answer. After a lease, another backend has received all
    messages that the receive did not return.
    """
    network = await ctx.network()
    queue = (await network.opened(short_lease=True)).queue
    direct = await ctx.queue(short_lease=True)
    lost: list[tuple[str, list[bytes]]] = []

    async def attempt() -> None:
        topic = ctx.topic()
        await direct.put(topic, BODIES)
        receiving = queue.receive(topic, limit=len(BODIES), wait=ctx.grace)
        found = sum(await unless_unavailable(receiving, "a receive whose answer is lost"), list[Delivery]())
        await repeated(ctx, partial(queue.ack, found), "an ack")
        lost.append((topic, [body for body in BODIES if body not in {each.body for each in found}]))

    await network.lose_each_answer(attempt)
    for topic, bodies in lost:
        await _arrive(ctx, direct, topic, bodies, "a receive whose answer was lost", lease=direct.lease)


@rule("QUEUE-ANSWER-03", limit=120)
async def settling_is_repeatable(ctx: Context) -> None:
    """If the answer to an ack, a release or a bury is lost, the operation may be repeated: the message is settled.

    Why: The engine repeats a settlement that raises. Otherwise a call that is done runs again, or a message is neither
    ready nor dead.

    Test: Deliveries are settled through a relay that loses each answer, and again while `BackendUnavailableError` is
    raised. After a lease, no acknowledged and no dead message was delivered, dead messages are dead letters, and
    released ones were delivered.
    """
    network = await ctx.network()
    queue = (await network.opened(short_lease=True)).queue
    direct = await ctx.queue(short_lease=True)
    ended: dict[str, list[str]] = {"ack": [], "bury": [], "release": []}

    async def bury(deliveries: Sequence[Delivery]) -> None:
        await queue.bury(deliveries[0], "a reason")

    for name, settle in {"ack": queue.ack, "bury": bury, "release": queue.release}.items():

        async def attempt(name: str = name, settle: Callable[[list[Delivery]], Awaitable[None]] = settle) -> None:
            losing, topic = network.pause(), ctx.topic()
            await direct.put(topic, [b"settled"])
            begun = ctx.now()
            found = await repeated(ctx, partial(queue.receive, topic, limit=1, wait=ctx.grace), "a receive")
            equal([each.body for each in found], [b"settled"], "the received messages")
            network.lose_answer(losing)
            await repeated(ctx, partial(settle, found), name)
            if not ctx.is_late(queue, begun):  # a late settlement does nothing
                ended[name].append(topic)

        await network.lose_each_answer(attempt)
        if not ended[name]:
            raise StalledError
    for topic in ended["release"]:
        await _arrive(ctx, direct, topic, [b"settled"], "a release whose answer was lost")
    await sleep(queue.lease)
    for name in ("ack", "bury"):
        for topic in ended[name]:
            await ctx.none_left(direct, topic, f"{name} was repeated until it returned")
    for topic in ended["bury"]:
        dead = await direct.dead(topic, limit=10)
        check(bool(dead), "a message is neither ready nor dead after a bury whose answer was lost")


@rule("STEPS-ANSWER-01", limit=120)
async def commit_is_repeatable(ctx: Context) -> None:
    """If the answer to a commit is lost, it raises or reports the truth. Repeated, it takes effect once.

    Why: The engine looks again after an error. A step that took effect, but reports that it did not, makes the worker
    drop a message that it holds.

    Test: Steps with every effect pass a relay that loses each answer, and are committed again after
    `BackendUnavailableError`. Then records, counter and messages are as after one commit.
    """
    network = await ctx.network()
    backend, direct = await network.opened(short_lease=True), await ctx.backend(short_lease=True)
    steps, queue = steps_of(backend), backend.queue
    ended: list[tuple[str, str | None]] = []  # the topics of the messages that were put, and of the acknowledged one

    async def attempt() -> None:
        losing, topic, done = network.pause(), ctx.topic(), ctx.topic()
        record, mark, counter = ctx.key(), ctx.key("call"), ctx.counter()
        await direct.queue.put(done, [b"held"])
        begun = ctx.now()
        held = await repeated(ctx, partial(queue.receive, done, limit=1, wait=ctx.grace), "a receive")
        step = Step(
            [(mark, None)],
            [Count(counter, 1, 10)],
            [(record, b"written")],
            [Message(topic, b"put"), Message(topic, b"leased", leased=True)],
            [(mark, b"marked")],
            held,
        )
        network.lose_answer(losing)
        results = await unless_unavailable(steps.commit([step]), "a commit whose answer is lost")
        if not results:
            await repeated(ctx, partial(steps.commit, [step]), "a commit")
        elif results[0] == [None]:
            broken("a commit whose answer was lost reports that the step was not applied")
        late = ctx.is_late(queue, begun)
        seen = await direct.store.read([record, mark])
        equal(seen, [b"written", b"marked"], "the records after a repeated commit")
        equal(await direct.cache.increment({counter: 0}), {counter: 1}, "the counter after a repeated commit")
        ended.append((topic, None if late else done))

    await network.lose_each_answer(attempt)
    for topic, done in ended:
        found = await ctx.take_all(direct.queue, topic, 2, within=queue.lease + ctx.grace, ack=True)
        same_bodies([each.body for each in found], [b"put", b"leased"], "the messages of a repeated commit")
        await ctx.none_left(direct.queue, topic, "a commit took effect once")
        if done is not None:
            await ctx.none_left(direct.queue, done, "a commit acknowledged the message")
