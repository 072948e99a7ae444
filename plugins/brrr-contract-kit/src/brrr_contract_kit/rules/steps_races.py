"""Rules STEPS-RACE, -LINEAR, -CANCEL, -PROC and -CLOSED: commits that are concurrent, cancelled or killed."""

from asyncio import Barrier, create_task, gather, sleep
from functools import partial
from itertools import chain, product
from time import time

from brrr_contract_kit.registry import LONG, rule
from brrr_contract_kit.testbed.checks import check, equal, refused, same_bodies
from brrr_contract_kit.testbed.context import Context, raised
from brrr_contract_kit.testbed.histories import check_histories
from brrr_contract_kit.testbed.processes import HEAD_START
from brrr_contract_kit.testbed.stepped import NOTHING_LEASED, SteppedBackend, SteppedStore, stepped_backend, steps_of
from brrr_core.backend import Count, Key, Message, Step, Swap
from brrr_core.errors import BackendClosedError

RACERS = 8
KEYS = 10
ANY = 1_000_000


async def _stepped_backends(ctx: Context, count: int) -> list[SteppedBackend]:
    """Return a backend for each of `count` clients: one of two, or always the same if two would share no data."""
    pair = [await stepped_backend(ctx) for _ in range(2 if ctx.target.shared("steps") else 1)]
    return [pair[number % len(pair)] for number in range(count)]


@rule("STEPS-RACE-01")
async def one_creator(ctx: Context) -> None:
    """If the steps of many clients create one record at the same time, exactly one is applied, with all its effects.

    Why: Two runs of a parent put the same missing call. One message for it is enough.

    Test: Eight clients, on two backends if these share data, race for ten records. A barrier starts each race. Each
    record has one value, and each counter and topic the effects of one step.
    """
    backends, topic, counter = await _stepped_backends(ctx, RACERS), ctx.topic(), ctx.counter()
    barrier, winners = Barrier(RACERS), list[bytes]()
    for number, key in enumerate([ctx.key() for _ in range(KEYS)]):

        async def race(racer: int, number: int = number, key: Key = key) -> bytes | None:
            value = b"%d of %d" % (number, racer)
            step = Step([(key, None)], [Count(counter, 1, ANY)], [(key, value)], [Message(topic, value)])
            await barrier.wait()
            return None if await backends[racer].commit(step) == [None] else value

        won = [value for value in await gather(*map(race, range(RACERS))) if value is not None]
        equal(len(won), 1, f"the applied steps among those of {RACERS} clients that create one record")
        equal(await backends[0].store.read([key]), won, "the record after the race")
        winners += won
    equal(await backends[0].counts(counter), [KEYS], "the counter to which each applied step added 1")
    found = await ctx.take_all(backends[0].queue, topic, KEYS)
    same_bodies([each.body for each in found], winners, "the messages of the applied steps")
    await ctx.none_left(backends[0].queue, topic, "only one step was applied for each record")


@rule("STEPS-RACE-02")
async def no_lost_update(ctx: Context) -> None:
    """If many clients increase a number by steps and by swaps, no increase is lost, and each step counts once.

    Why: Parents register on a child in this way. Workers with an older brrr-core do it by swaps.

    Test: Eight clients add 1 fifteen times each, four of them by steps, which also add to a counter and put a message.
    """
    backends, key, topic, counter = await _stepped_backends(ctx, RACERS), ctx.key(), ctx.topic(), ctx.counter()
    times = 15

    async def add(at: SteppedBackend, client: int) -> None:
        for number in range(times):
            while True:
                (found,) = await at.store.read([key])
                new = b"%d" % (int(found or b"0") + 1)
                message = Message(topic, b"%d %d" % (client, number))
                step = Step([(key, found)], [Count(counter, 1, ANY)], messages=[message], marks=[(key, new)])
                if client % 4 < 2:
                    applied = await at.commit(step) != [None]
                else:
                    (applied,) = await at.store.swap([Swap(key, found, new)])
                if applied:
                    break

    await gather(*(add(at, client) for client, at in enumerate(backends)))
    equal(await backends[0].store.read([key]), [b"%d" % (times * RACERS)], "the number after all increases")
    equal(await backends[0].counts(counter), [times * RACERS // 2], "the counter after all steps")
    found = await ctx.take_all(backends[0].queue, topic, times * RACERS // 2, ack=True)
    same_bodies(
        [each.body for each in found],
        [b"%d %d" % (client, number) for client in (0, 1, 4, 5) for number in range(times)],
        "the messages of the steps",
    )
    await ctx.none_left(backends[0].queue, topic, "each increase by a step put one message")


@rule("STEPS-RACE-03")
async def limit_holds(ctx: Context) -> None:
    """Under concurrency, a counter reaches its limit and never exceeds it, and the applied steps add up to it.

    Why: The spawn limit must stop a recursion that many workers run.

    Test: Eight clients commit ten steps each that add 1 to a counter with the limit 50. Exactly 50 are applied.
    """
    backends, counter, most = await _stepped_backends(ctx, RACERS), ctx.counter(), 50

    async def add(at: SteppedBackend) -> list[bool]:
        return [await at.commit(Step((), [Count(counter, 1, most)])) == [[]] for _ in range(10)]

    applied = [*chain.from_iterable(await gather(*map(add, backends)))]
    equal(sum(applied), most, "the applied steps")
    equal(await backends[0].counts(counter), [most], "the counter at its limit")


@rule("STEPS-RACE-04")
async def records_together(ctx: Context) -> None:
    """All records of a step are compared at one moment: no two applied steps have found the same records.

    Why: A step returns a value if the pending returns are as they were read. A parent that registers in between would
    never be woken.

    Test: Six clients read two records, and commit a step that expects both and changes one of them, in turn. Other
    clients swap one of the two. No two applied steps expected the same pair, because every value is written only once.
    """
    backends, one, two = await _stepped_backends(ctx, 8), ctx.key(), ctx.key("pending_returns")
    expected: list[tuple[bytes | None, bytes | None]] = []

    async def step(at: SteppedBackend, client: int) -> None:
        for number in range(12):
            found = await at.store.read([one, two])
            changed = (one, two)[(client + number) % 2]
            marks = [(changed, b"%d %d" % (client, number))]
            if await at.commit(Step([(one, found[0]), (two, found[1])], marks=marks)) == [[]]:
                expected.append((found[0], found[1]))

    async def swap(at: SteppedBackend, client: int) -> None:
        for number in range(12):
            (found,) = await at.store.read([two])
            await at.store.swap([Swap(two, found, b"%d %d" % (client, number))])

    await gather(*((swap if client > 5 else step)(at, client) for client, at in enumerate(backends)))
    check(bool(expected), "no step was applied")
    twice = [pair for pair in expected if expected.count(pair) > 1]
    check(not twice, f"several applied steps expected the same two records: {twice[:3]}")


@rule("STEPS-LINEAR-01")
async def histories(ctx: Context) -> None:
    """Steps and simple operations together are linearizable per key.

    Why: The engine uses both for the same records.

    Test: As STORE-LINEAR-01, with five clients of which three write and swap by steps. Six rounds, seeded.
    """
    backends = await _stepped_backends(ctx, 5)
    stores = [SteppedStore(at) if client % 2 == 0 else at.store for client, at in enumerate(backends)]
    await check_histories(ctx, stores)


@rule("STEPS-CANCEL-01", limit=LONG)
async def all_or_nothing(ctx: Context) -> None:
    """Each step of a cancelled commit has been applied completely or not at all, and no leased message is lost.

    Why: A worker may be stopped at any await. Another one continues with what it finds.

    Test: Commits of two steps with every effect are cancelled after 0, 1, 2 … turns. Each step then has all its effects
    or none. The message that an applied step leased comes back when its lease has expired.
    """
    at = await stepped_backend(ctx, short_lease=True)
    value = b"x" * 16_384
    cases: list[tuple[str, Key, Key, str]] = []

    def prepared() -> list[Step]:
        steps: list[Step] = []
        for _ in range(2):
            topic, key, mark, counter = case = ctx.topic(), ctx.key(), ctx.key("pending_returns"), ctx.counter()
            cases.append(case)
            messages = [Message(topic, b"leased", leased=True), Message(topic, b"put")]
            steps.append(Step([(key, None)], [Count(counter, 1, 1)], [(key, value)], messages, [(mark, b"mark")]))
        return steps

    turns = await ctx.turns_of(partial(at.steps.commit, prepared()))
    for point in ctx.points(turns):
        ended = await ctx.cancelled(partial(at.steps.commit, prepared()), point)
        if isinstance(ended.result, list):
            check(None not in ended.result, "a commit that was not cancelled in time did not apply a step")
    for topic, key, mark, counter in cases:
        state: list[object] = []

        async def settled(
            key: Key = key, mark: Key = mark, counter: str = counter, state: list[object] = state
        ) -> bool:
            state[:] = [*await at.store.read([key, mark]), *await at.counts(counter)]
            return state in ([None, None, 0], [value, b"mark", 1])

        await ctx.until(settled, "a step of a cancelled commit has all its effects or none")
        if state[0] is not None:
            found = await ctx.take_all(at.queue, topic, 2, within=at.queue.lease + ctx.grace, ack=True)
            same_bodies([each.body for each in found], [b"leased", b"put"], "the messages of an applied step")
        await ctx.none_left(at.queue, topic, "the step put no other message")


@rule("STEPS-CANCEL-02")
async def neighbours_unharmed(ctx: Context) -> None:
    """Cancelling one commit does not affect concurrent commits.

    Why: The calls of one process share a backend, and often one batch, and one of them may be cancelled.

    Test: Eight commits run concurrently. The first, a middle one or the last is cancelled after 0, 1, 2 … turns. The
    others return, and their steps were applied.
    """
    at = await stepped_backend(ctx)
    for place, point in product((0, 3, 7), (0, 1, 2, 3, 5, 8, 20, 50)):
        keys, other = [ctx.key() for _ in range(7)], ctx.key()
        async with ctx.within(2 * ctx.grace, "commits return while another one is cancelled"):
            stepped = keys.copy()
            stepped.insert(place, other)  # the first of a batch may be the one that sends the batch
            others = [create_task(at.commit(Step([(key, None)], writes=[(key, b"x")]))) for key in stepped]
            await ctx.cancel(others.pop(place), point)
            equal(
                await gather(*others),
                [[NOTHING_LEASED]] * 7,
                "the results of commits that run while another one is cancelled",
            )
        equal(await at.store.read(keys), [b"x"] * 7, "the records of commits that run while another one is cancelled")


@rule("STEPS-PROC-01", needs="store.shared", processes=True)
async def between_processes(ctx: Context) -> None:
    """Steps of several processes lose no increase, and each of them counts and puts its message once.

    Why: Workers are processes, and a lock inside one process does not stop another.

    Test: Three processes increase a number by forty steps each, which also add to a counter and put a message.
    """
    at, key, topic, counter = await stepped_backend(ctx), ctx.key(), ctx.topic(), ctx.counter()
    agents = await gather(*(ctx.agent() for _ in range(3)))
    names = {"call_hash": key.call_hash, "topic": topic, "counter": counter}
    start = time() + HEAD_START
    await gather(*(agent.do("step", **names, commits=40, size=1, slowly=False, at=start) for agent in agents))
    equal(await at.store.read([key]), [b"120"], "the number after all steps")
    equal(await at.store.read(_numbered(ctx, key, 120)), [b"x"] * 120, "the records of all steps")
    equal(await at.counts(counter), [120], "the counter after all steps")
    found = await ctx.take_all(at.queue, topic, 120, ack=True)
    same_bodies([each.body for each in found], [b"%d" % number for number in range(1, 121)], "the messages")
    await ctx.none_left(at.queue, topic, "each step put one message")


@rule("STEPS-PROC-02", needs="store.shared", processes=True)
async def committer_killed(ctx: Context) -> None:
    """If a process is killed while it commits, each of its steps has all its effects or none.

    Why: A process can die at any point, even while the server applies its steps.

    Test: A process commits three steps at a time, which increase a number, add to a counter, write a record and put a
    message. It is killed at a random moment after some commits, and so are two more. The number, the counter, the
    records and the messages agree, and no step that a process has reported is lost.
    """
    at, key, topic, counter = await stepped_backend(ctx), ctx.key(), ctx.topic(), ctx.counter()
    names = {"call_hash": key.call_hash, "topic": topic, "counter": counter}
    reported = 0
    for _ in range(3):
        agent = await ctx.agent()
        agent.begin("step", **names, commits=1_000, size=3, slowly=True, at=0)
        for _ in range(ctx.random.randint(2, 8)):
            async with ctx.within(2 * ctx.grace, "another process commits steps"):
                reported = await agent.answer()
        await sleep(ctx.random.uniform(0, 0.05))  # else it dies before the next commit has begun
        reported = max([reported, *await agent.kill()])
    applied = 0

    async def agree() -> bool:
        nonlocal applied
        (number,) = await at.store.read([key])
        applied = int(number or b"0")
        return await at.counts(counter) == [applied]  # the server may still apply the last commit

    await ctx.until(agree, "each step increases the counter with the number")
    check(reported <= applied, f"a process reported {reported} applied steps, but there are {applied}")
    wanted = [b"x"] * applied + [None] * 3
    equal(await at.store.read(_numbered(ctx, key, applied + 3)), wanted, "the records of the steps")
    found = await ctx.take_all(at.queue, topic, applied, within=2 * ctx.grace, ack=True)
    same_bodies([each.body for each in found], [b"%d" % each for each in range(1, applied + 1)], "the messages")
    await ctx.none_left(at.queue, topic, "each applied step put one message")


def _numbered(ctx: Context, key: Key, count: int) -> list[Key]:
    """Return the keys of the records that the steps of other processes write."""
    return [ctx.own_key(Key("call", f"{key.call_hash}/{number}")) for number in range(1, count + 1)]


@rule("STEPS-CLOSED-01")
async def closed_refuses(ctx: Context) -> None:
    """The steps of a closed backend raise `BackendClosedError`, and so does a receive that waits when it is closed.

    Why: A handler that still runs during a shutdown must get a clear error, not a hang or a broken pipe.

    Test: A receive waits up to ten minutes while the backend is closed. Then both operations are called.
    """
    backend, key = ctx.target.backend(), ctx.key()
    async with backend:
        steps = steps_of(backend)
        waiting = create_task(steps.receive(ctx.topic(), limit=1, wait=600, readings=()))
        await sleep(0.05)  # usually enough to be waiting; the result is the same if not
        async with ctx.within(2 * ctx.grace, "closing a backend ends a receive that waits"):
            await backend.close()
            refused(await raised(waiting), BackendClosedError, "a receive that waits while its backend is closed")
    later = steps.receive(ctx.topic(), limit=1, wait=0, readings=())
    refused(await raised(later), BackendClosedError, "a receive on a closed backend")
    commit = steps.commit([Step([(key, None)], writes=[(key, b"x")])])
    refused(await raised(commit), BackendClosedError, "a commit on a closed backend")
