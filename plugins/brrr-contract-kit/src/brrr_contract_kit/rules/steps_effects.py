"""Rules STEPS-APPLY, STEPS-COUNT and STEPS-PUT: when a step is applied, and its effects."""

from asyncio import TaskGroup, sleep
from math import inf, nan

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.checks import check, equal, refused, same_bodies
from brrr_contract_kit.testbed.context import Context, raised
from brrr_contract_kit.testbed.stepped import NOTHING_LEASED, stepped_backend
from brrr_core.backend import Count, Message, Step, Swap
from brrr_core.errors import ArgumentError, CapabilityError

DELAY = 1.0
EARLY = 0.9
ANY = 1_000_000
"""A limit that no counter of a rule reaches."""


@rule("STEPS-APPLY-01")
async def compares(ctx: Context) -> None:
    """A step is applied only if each expected record is as given: the same bytes, empty, or absent.

    Why: A worker decides by the records that it has read. If one of them has changed, the step would undo the change.

    Test: Steps expect a part, an extension, another case, an empty or an absent record, and records that are as given.
    One step expects two records, of which the second differs.
    """
    at = await stepped_backend(ctx)
    there, empty, absent, done = ctx.key(), ctx.key("pending_returns"), ctx.key("call"), ctx.key()
    await at.store.write([(there, b"01\0Ab"), (empty, b"")])
    wrong = [(there, each) for each in (None, b"", b"01", b"01\0A", b"01\0Abc", b"01\0AB", b"1\0Ab", b" 01\0Ab")]
    wrong += [(empty, None), (empty, b"x"), (empty, b"\0"), (absent, b""), (absent, b"x")]
    for key, expected in wrong:
        result = await at.commit(Step([(key, expected)], writes=[(done, b"done")]))
        equal(result, [None], f"the result of a step that expects {expected!r}")
    result = await at.commit(Step([(there, b"01\0Ab"), (empty, None)], writes=[(done, b"done")]))
    equal(result, [None], "the result of a step that expects a right and a wrong record")
    equal(await at.store.read([done]), [None], "the record that only steps which were not applied write")
    right = Step([(there, b"01\0Ab"), (empty, b""), (absent, None)], writes=[(done, b"done")])
    equal(await at.commit(right), [NOTHING_LEASED], "the result of a step that expects three records as they are")
    equal(await at.store.read([done]), [b"done"], "the record that the step writes")


@rule("STEPS-APPLY-02")
async def nothing_happens(ctx: Context) -> None:
    """A step that is not applied has no effect: on no record, counter, message or delivery.

    Why: The engine then does the same work with simple operations. After half a step, that would count twice.

    Test: A step with every effect expects another record, and one adds more to a counter than its limit allows.
    Afterwards the records, counters and topics are as before, and the delivery can be released.
    """
    at = await stepped_backend(ctx)
    topic, target, leased = ctx.topic(), ctx.topic(), ctx.topic()
    key, written, marked, deleted = ctx.key(), ctx.key("call"), ctx.key("pending_returns"), ctx.key()
    counter, other = ctx.counter(), ctx.counter()
    await at.store.write([(key, b"now"), (marked, b"old"), (deleted, b"old")])
    await at.cache.increment({counter: 5})
    for expected, limit in ((b"then", ANY), (b"now", 6)):
        delivery = await at.put(topic, b"held")
        step = Step(
            [(key, expected)],
            [Count(other, 1, ANY), Count(counter, 2, limit)],
            [(written, b"new")],
            [Message(target, b"put"), Message(leased, b"put", leased=True)],
            [(marked, b"new"), (deleted, None)],
            [delivery],
        )
        equal(await at.commit(step), [None], "the result of a step that must not be applied")
        found = await at.store.read([key, written, marked, deleted])
        equal(found, [b"now", None, b"old", b"old"], "the records after a step that was not applied")
        equal(await at.counts(counter, other), [5, 0], "the counters after a step that was not applied")
        for each in (target, leased):
            await ctx.none_left(at.queue, each, "the step was not applied")
        equal((await at.queue.stats(leased)).leased, 0, "the leased messages after a step that was not applied")
        await at.queue.release([delivery])
        again = await ctx.take_one(at.queue, topic)
        equal(again.attempt, 2, "the attempt of a delivery that the step would have acknowledged")
        await at.queue.ack([again])


@rule("STEPS-APPLY-03")
async def everything_happens(ctx: Context) -> None:
    """An applied step has all its effects, and the operations of the roles see them.

    Why: The engine mixes steps and simple operations.

    Test: A step with every effect is committed. Another backend, if it shares data, and the same one see the records,
    counters and messages. A step without effects is applied, and no steps have no results.
    """
    at = await stepped_backend(ctx)
    topic, target, key, counter = ctx.topic(), ctx.topic(), ctx.key(), ctx.counter()
    written, marked, deleted = ctx.key("call"), ctx.key("pending_returns"), ctx.key()
    await at.store.write([(deleted, b"old")])
    delivery = await at.put(topic, b"held")
    step = Step(
        [(key, None)],
        [Count(counter, 3, 3)],
        [(written, b"new")],
        [Message(target, b"put")],
        [(marked, b""), (deleted, None)],
        [delivery],
    )
    equal(await at.applied(step), [], "the leased messages of a step that leases none")
    found = await at.store.read([key, written, marked, deleted])
    equal(found, [None, b"new", b"", None], "the records after the step")
    equal(await at.store.swap([Swap(marked, b"", b"next")]), [True], "a swap that expects the record of the step")
    equal(await at.cache.increment({counter: 1}), {counter: 4}, "the counter after the step and an increment")
    put = await ctx.take_one(at.queue, target)
    equal((put.body, put.attempt), (b"put", 1), "body and attempt of the message")
    await at.queue.release([delivery])
    await ctx.none_left(at.queue, topic, "the step acknowledged the message")
    equal(await at.commit(Step([(marked, b"next")])), [NOTHING_LEASED], "the result of a step that only compares")
    equal(await at.commit(Step(())), [NOTHING_LEASED], "the result of a step without any part")
    equal(await at.commit(), [], "the results of no steps")


@rule("STEPS-APPLY-04")
async def one_after_the_other(ctx: Context) -> None:
    """The steps of a commit are applied one after another, and a step that is not applied does not prevent others.

    Why: One commit has the steps of many calls, and several of them may change one record or count for one root.

    Test: Steps create, replace and delete one record, add to one counter up to its limit, and read what the step before
    them has written. Steps that expect a record of before an earlier step are not applied.
    """
    at = await stepped_backend(ctx)
    key, other, counter, topic = ctx.key(), ctx.key("call"), ctx.counter(), ctx.topic()
    steps = [
        Step([(key, None)], writes=[(key, b"1")], counts=[Count(counter, 1, 3)]),
        Step([(key, None)], writes=[(key, b"x")], counts=[Count(counter, 1, 3)]),
        Step([(key, b"1")], marks=[(key, b"2")], counts=[Count(counter, 1, 3)]),
        Step([(other, None)], writes=[(other, b"beside")], messages=[Message(topic, b"put")]),
        Step([(key, b"2"), (other, b"beside")], marks=[(key, None)], counts=[Count(counter, 2, 3)]),
        Step([(key, b"2"), (other, b"beside")], marks=[(key, None)], counts=[Count(counter, 1, 3)]),
        Step([(key, None)], writes=[(key, b"3")], counts=[Count(counter, 1, 3)]),
        Step([(key, None)], writes=[(key, b"4")], counts=[Count(counter, 1, 4)]),
    ]
    done = [leased is not None for leased in await at.commit(*steps)]
    equal(done, [True, False, True, True, False, True, False, True], "the steps that were applied")
    equal(await at.store.read([key, other]), [b"4", b"beside"], "the records after the steps")
    equal(await at.counts(counter), [4], "the counter after the steps")
    equal((await ctx.take_one(at.queue, topic)).body, b"put", "the message of a step among others")


@rule("STEPS-APPLY-05")
async def marks_come_last(ctx: Context) -> None:
    """Marks come after writes: if both name one record, the mark stays.

    Why: A server that fails in the middle of a step leaves a prefix of its effects. A mark says that the message was
    put, so it must come after it.

    Test: Steps write and mark one record with a value, and with None. A step deletes an absent record.
    """
    at = await stepped_backend(ctx)
    key, absent = ctx.key("pending_returns"), ctx.key()
    await at.applied(Step((), writes=[(key, b"written")], marks=[(key, b"marked")]))
    equal(await at.store.read([key]), [b"marked"], "a record that one step writes and marks")
    await at.applied(Step((), writes=[(key, b"written")], marks=[(key, None), (absent, None)]))
    equal(await at.store.read([key, absent]), [None, None], "records that one step deletes")


@rule("STEPS-COUNT-01")
async def within_limit(ctx: Context) -> None:
    """A step is applied if each counter is at most its limit afterwards, and adds to the counters of the cache.

    Why: The spawn limit stops a recursion that does not end, at the same number with steps and without.

    Test: Additions end below, at and above a limit. The counter begins at 0, and in a second part far below it, as that
    of a schedule with a high spawn limit.
    """
    at, counter, low = await stepped_backend(ctx), ctx.counter(), ctx.counter()
    done = NOTHING_LEASED
    for amount, limit, result, after in (
        (2, 3, done, 2),
        (2, 3, None, 2),
        (1, 3, done, 3),
        (1, 3, None, 3),
        (1, 4, done, 4),
    ):
        equal(await at.commit(Step((), [Count(counter, amount, limit)])), [result], f"adding {amount} up to {limit}")
        equal(await at.counts(counter), [after], f"the counter after adding {amount} up to {limit}")
    await at.cache.increment({low: -40_000})
    equal(await at.commit(Step((), [Count(low, 50_001, 10_000)])), [None], "adding one more than the limit allows")
    equal(
        await at.commit(Step((), [Count(low, 50_000, 10_000)])), [NOTHING_LEASED], "adding as much as the limit allows"
    )
    equal(await at.cache.increment({low: 1}), {low: 10_001}, "the counter after one more increment")


@rule("STEPS-COUNT-02")
async def all_counters(ctx: Context) -> None:
    """A step adds to all its counters, or to none of them.

    Why: A batch has calls of several schedules. One schedule at its limit must not count for another.

    Test: A step adds to three counters, of which the first, the second or the last is at its limit.
    """
    at = await stepped_backend(ctx)
    counters = [ctx.counter() for _ in range(3)]
    for full in counters:
        counts = [Count(each, 2, 1 if each is full else ANY) for each in counters]
        equal(await at.commit(Step((), counts)), [None], "the result of a step with one counter over its limit")
    equal(await at.counts(*counters), [0, 0, 0], "the counters after steps over a limit")
    equal(
        await at.commit(Step((), [Count(each, 2, 2) for each in counters])),
        [NOTHING_LEASED],
        "the result within all limits",
    )
    equal(await at.counts(*counters), [2, 2, 2], "the counters after a step within all limits")


@rule("STEPS-PUT-01")
async def puts(ctx: Context) -> None:
    """A step puts each of its messages to its own topic, with any bytes as a body, even equal ones.

    Why: The missing calls of a run go to the topics of their tasks.

    Test: One step puts messages to four topics, among them equal and hostile bodies and a topic with a slash, and two
    steps put an equal message.
    """
    at = await stepped_backend(ctx)
    topics = [ctx.topic(), ctx.topic("/a b"), ctx.topic("*?[é]"), ctx.topic()]
    bodies = [b"", b"same", b"same", bytes(range(256)), b"\r\n$3\r\n'\"", b"li2e"]
    step = Step((), messages=[Message(topic, body) for body in bodies for topic in topics])
    equal(await at.commit(step, step), [NOTHING_LEASED] * 2, "the results of two steps that put messages")
    for topic in topics:
        found = await ctx.take_all(at.queue, topic, 2 * len(bodies), ack=True)
        same_bodies([each.body for each in found], 2 * bodies, "the messages of a topic")
        equal({each.attempt for each in found}, {1}, "the attempts of the messages")


@rule("STEPS-PUT-02")
async def wakes(ctx: Context) -> None:
    """A message that a step puts wakes a waiting receive, of the queue or of the steps.

    Why: Otherwise a call waits while a worker is idle.

    Test: A receive of the queue and one of the steps wait up to ten minutes while a step puts a message for each. They
    are those of another backend, if it shares data. Both must return within the grace.
    """
    at = await stepped_backend(ctx)
    receiver = await stepped_backend(ctx) if ctx.target.shared("steps") else at
    topic, other = ctx.topic(), ctx.topic()
    async with ctx.within(2 * ctx.grace, "receives wake when a step puts messages"), TaskGroup() as tasks:
        plain = tasks.create_task(ctx.take(receiver.queue, topic, wait=600))
        stepped = tasks.create_task(receiver.receive(other, wait=600))
        await sleep(0.01)  # usually enough to be waiting; the result is the same if not
        await at.applied(Step((), messages=[Message(topic, b"awaited"), Message(other, b"awaited")]))
    found = [*plain.result(), *(each.delivery for each in stepped.result())]
    equal([(each.topic, each.body) for each in found], [(topic, b"awaited"), (other, b"awaited")], "the messages")


@rule("STEPS-PUT-03", needs="queue.delay")
async def puts_later(ctx: Context) -> None:
    """A message that a step puts with a delay becomes ready when the delay is over.

    Why: A parent that cannot register looks again after a delay.

    Test: A step puts a message with a delay of one second and one without. They are received at their times.
    """
    at, topic = await stepped_backend(ctx), ctx.topic()
    begun = ctx.now()
    await at.applied(Step((), messages=[Message(topic, b"later", DELAY), Message(topic, b"now")]))
    equal((await at.one(topic)).delivery.body, b"now", "the body of the first delivery")
    second = (await at.one(topic, within=DELAY + ctx.grace)).delivery
    took = ctx.now() - begun
    check(took >= EARLY * DELAY, f"a message with a delay of {DELAY:g} s was delivered after {took:.3f} s")
    equal((second.body, second.attempt), (b"later", 1), "body and attempt of the delayed message")


@rule("STEPS-PUT-04", unless="queue.delay")
async def delay_refused(ctx: Context) -> None:
    """A backend whose queue does not declare `delay` refuses a step with a positive delay, and applies no step.

    Why: If a delay is ignored, waiting becomes a busy loop.

    Test: A commit has a step without a delay before one with a delay.
    """
    at, topic, key = await stepped_backend(ctx), ctx.topic(), ctx.key()
    steps = [Step((), writes=[(key, b"x")]), Step((), messages=[Message(topic, b"later", DELAY)])]
    refused(await raised(at.steps.commit(steps)), CapabilityError, "a step with a delay")
    equal(await at.store.read([key]), [None], "the record of a step in a refused commit")
    await ctx.none_left(at.queue, topic, "the step was refused")


@rule("STEPS-PUT-05")
async def arguments_refused(ctx: Context) -> None:
    """An empty topic and a negative, infinite or NaN delay are refused with `ArgumentError`, and no step is applied.

    Why: Such an argument is a mistake of the caller. A server may give it another meaning.

    Test: A commit has a good step before one with such a message.
    """
    at, topic, key = await stepped_backend(ctx), ctx.topic(), ctx.key()
    for message in (Message("", b"x"), *(Message(topic, b"x", delay) for delay in (-1.0, inf, -inf, nan))):
        steps = [Step((), writes=[(key, b"x")]), Step((), messages=[message])]
        refused(await raised(at.steps.commit(steps)), ArgumentError, f"a step with {message!r}")
    equal(await at.store.read([key]), [None], "the record of a step in a refused commit")
    await ctx.none_left(at.queue, topic, "the steps were refused")
