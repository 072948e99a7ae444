"""Rules STEPS-LEASE, STEPS-ACK, STEPS-READ and STEPS-SIZE: leased messages, receipts, readings and sizes."""

from asyncio import TaskGroup

from brrr_contract_kit.registry import LONG, rule
from brrr_contract_kit.rules.queue_bodies import LARGEST_REFUSED
from brrr_contract_kit.testbed.checks import check, equal, refused, same_bodies
from brrr_contract_kit.testbed.context import Context, NotApplicableError, raised
from brrr_contract_kit.testbed.stepped import NOTHING_LEASED, records_of, schedule_message, stepped_backend
from brrr_core.backend import Count, Key, Message, Reading, Received, Step
from brrr_core.errors import BodyTooLargeError, ValueTooLargeError

EARLY = 0.9


@rule("STEPS-LEASE-01")
async def hidden(ctx: Context) -> None:
    """A message that is put leased is hidden from every receive, is attempt 1, and can be acknowledged.

    Why: The worker that puts a call runs it itself. A second worker must not run it at the same time.

    Test: Two steps lease three messages, two of them equal, and put one. Receives return only the message that was put.
    The deliveries come in the order of the messages. When one is acknowledged and the others are released, those two
    are delivered.
    """
    at, topic, other = await stepped_backend(ctx), ctx.topic(), ctx.topic()
    steps = [
        Step((), messages=[Message(topic, b"same", leased=True), Message(other, b"one", leased=True)]),
        Step((), messages=[Message(topic, b"put"), Message(topic, b"same", leased=True)]),
    ]
    first, second = await at.commit(*steps)
    leased = [each.delivery for each in (*(first or ()), *(second or ()))]
    wanted = [(topic, b"same", 1), (other, b"one", 1), (topic, b"same", 1)]
    equal([(each.topic, each.body, each.attempt) for each in leased], wanted, "topic, body and attempt of deliveries")
    equal((await at.one(topic)).delivery.body, b"put", "the body of the only ready message")
    for each in (topic, other):
        await ctx.none_left(at.queue, each, "its messages are leased")
        equal(await at.receive(each), [], "the messages that a receive with readings returns while all are leased")
    await at.queue.ack(leased[:1])
    await at.queue.release(leased)
    again = await ctx.take_all(at.queue, topic, 1)
    equal([(each.body, each.attempt) for each in again], [(b"same", 2)], "the message that was not acknowledged")
    await ctx.none_left(at.queue, topic, "the other message was acknowledged")
    equal((await at.one(other)).delivery.attempt, 2, "the attempt of the message of the other topic")


@rule("STEPS-LEASE-02", limit=LONG)
async def runs_out(ctx: Context) -> None:
    """When the lease of such a message expires, it becomes ready as attempt 2, even for a waiting receive.

    Why: The worker may die before it has run the call that it has leased.

    Test: A step leases a message, and a receive waits. It returns the message when the lease has expired.
    """
    at, topic = await stepped_backend(ctx, short_lease=True), ctx.topic()
    begun = ctx.now()
    await at.applied(Step((), messages=[Message(topic, b"left alone", leased=True)]))
    async with ctx.within(at.queue.lease + ctx.grace, "a waiting receive gets a message whose lease expires"):
        again = await at.one(topic, within=600)
    took = ctx.now() - begun
    check(took >= EARLY * at.queue.lease, f"a lease of {at.queue.lease:g} s expired after {took:.3f} s")
    equal((again.delivery.body, again.delivery.attempt), (b"left alone", 2), "body and attempt of the message")


@rule("STEPS-LEASE-03", limit=LONG)
async def settled(ctx: Context) -> None:
    """Such a delivery can be extended, released and dead-lettered as any other.

    Why: The engine does not know where a delivery comes from.

    Test: A step leases three messages. One is released, one dead-lettered, and one extended until two leases have
    passed: it stays hidden, and is then acknowledged.
    """
    at, topic, long = await stepped_backend(ctx, short_lease=True), ctx.topic(), ctx.topic()
    begun = held = ctx.now()
    step = Step((), messages=[Message(each, b"leased", leased=True) for each in (topic, topic, long)])
    one, two, three = [each.delivery for each in await at.applied(step)]
    await at.queue.release([one])
    await at.queue.bury(two, "why")
    ctx.in_time(at.queue, begun)
    again = await ctx.take_one(at.queue, topic)
    equal((again.body, again.attempt), (b"leased", 2), "body and attempt of the released message")
    letters = [(each.body, each.reason, each.attempt) for each in await at.queue.dead(topic, limit=10)]
    equal(letters, [(b"leased", "why", 1)], "the dead letters")
    while held < begun + 2 * at.queue.lease:
        found = await at.receive(long, wait=at.queue.lease / 3)
        ctx.in_time(at.queue, held)
        now = ctx.now()
        check(not found, f"an extended message was delivered {now - begun:.3f} s after it was leased")
        await at.queue.extend([three])
        ctx.in_time(at.queue, held)
        held = now
    await at.queue.ack([three])
    ctx.in_time(at.queue, held)
    await ctx.none_left(at.queue, long, "the message was extended and acknowledged in time")


@rule("STEPS-ACK-01", limit=LONG)
async def stale_is_skipped(ctx: Context) -> None:
    """A step skips a stale or settled receipt, and has all its other effects.

    Why: A worker whose lease has expired still returns its value. It must not remove the message from its new receiver.

    Test: One step acknowledges deliveries that were acknowledged, released or dead-lettered, and two whose leases have
    expired. Another receive has taken one of these two. The step also names a valid delivery twice. Only the message of
    the valid delivery is removed. The released message and both with expired leases are still delivered.
    """
    at, key = await stepped_backend(ctx, short_lease=True), ctx.key()
    untaken, expired = await at.put(ctx.topic(), b"held"), await at.put(ctx.topic(), b"held")
    await ctx.take_one(at.queue, expired.topic, within=at.queue.lease + ctx.grace)
    begun = ctx.now()
    acked, released, buried, live = [await at.put(ctx.topic(), b"held") for _ in range(4)]
    await at.queue.ack([acked])
    await at.queue.release([released])
    await at.queue.bury(buried, "why")
    again = await ctx.take_one(at.queue, released.topic)
    stale = [acked, released, buried, untaken, expired, live, live]
    equal(
        await at.commit(Step((), writes=[(key, b"x")], acks=stale)), [NOTHING_LEASED], "the result with stale receipts"
    )
    equal(await at.store.read([key]), [b"x"], "the record of a step with stale receipts")
    await at.queue.release([live, again])
    ctx.in_time(at.queue, begun)
    equal((await ctx.take_one(at.queue, released.topic)).body, b"held", "the message whose receipt was stale")
    await ctx.none_left(at.queue, live.topic, "the step acknowledged the live delivery")
    await ctx.take_one(at.queue, untaken.topic)
    await ctx.take_one(at.queue, expired.topic, within=at.queue.lease + ctx.grace)
    equal(len(await at.queue.dead(buried.topic, limit=10)), 1, "the dead letters after a stale acknowledgement")


READINGS = (
    Reading("value"),
    Reading("call"),
    Reading("pending_returns"),
    Reading("value", "brrr.state/"),
    Reading("value", "brrr.cancelled/", "root_id"),
    Reading("value", "", "root_id"),
    Reading("value"),
    Reading("value", "absent/"),
)


@rule("STEPS-READ-01")
async def reads(ctx: Context) -> None:
    """The readings of each message come in their order: of every kind, with a prefix, of the root id or call hash.

    Why: The engine decides by these records what to do with a message.

    Test: Records are written for two messages, and read by a receive and by a step that leases the messages. An absent
    record is None, an empty one is empty, and a reading that is named twice is read twice. No readings give no records.
    """
    at, topic = await stepped_backend(ctx), ctx.topic()
    roots, hashes = [ctx.key().call_hash for _ in range(2)], [ctx.key().call_hash for _ in range(2)]
    wanted: dict[bytes, list[bytes | None]] = {}
    for number, (root, call) in enumerate(zip(roots, hashes, strict=True)):
        records = [b"%d %d" % (number, place) for place in range(6)]
        records[2] = b""
        names = [call, call, call, f"brrr.state/{call}", f"brrr.cancelled/{root}", root]
        keys = [ctx.own_key(Key(reading.kind, name)) for reading, name in zip(READINGS, names, strict=False)]
        await at.store.write([*zip(keys, records, strict=True)])
        wanted[schedule_message(root, call)] = [*records, records[0], None]
    await at.queue.put(topic, [*wanted])
    for _ in wanted:
        found = await at.one(topic, readings=READINGS)
        equal(records_of(found), wanted[found.delivery.body], "the records of a received message")
        await at.queue.ack([found.delivery])
    step = Step((), messages=[Message(topic, body, leased=True) for body in wanted])
    for found in await at.applied(step, readings=READINGS):
        equal(records_of(found), wanted[found.delivery.body], "the records of a leased message")
        await at.queue.release([found.delivery])
    for _ in wanted:
        equal(records_of(await at.one(topic)), [], "the records if none are asked for")


@rule("STEPS-READ-02")
async def reads_none(ctx: Context) -> None:
    """If a body is not a schedule message, its delivery has no records: None.

    Why: The engine must dead-letter such a message. The other messages of its batch must not fail with it.

    Test: Messages that are nearly schedule messages are received with one that is: other syntax, wrong lengths, bytes
    behind the end, text that is not ASCII. A step leases them too.
    """
    at, topic, key = await stepped_backend(ctx), ctx.topic(), ctx.key()
    await at.store.write([(key, b"there")])
    good = schedule_message("root", key.call_hash)
    name = key.call_hash.encode()
    size = b"%d" % len(name)
    bad = [
        b"",
        b"x",
        b"li2e",
        b"li2e4:root",
        good[:-1],
        good + b"e",
        good.replace(b"li2e", b"li3e"),
        good.replace(b"li2e", b"d"),
        b" " + good,
        b"li2e-1:" + size + b":" + name + b"e",
        b"li2e+4:root" + size + b":" + name + b"e",
        b"li2e 4:root" + size + b":" + name + b"e",
        b"li2e:root" + size + b":" + name + b"e",
        b"li2e4.0:root" + size + b":" + name + b"e",
        b"li2e4:root" + b"9" * 19 + b":" + name + b"e",
        b"li2e4:root" + b"9" * 400 + b":" + name + b"e",
        b"li2e4:root" + size + b":" + name[:-1] + b"\xffe",
        b"li2e4:root" + size + b":" + name + b"4:moree",
        bytes(range(256)),
    ]
    bodies = [*bad[:10], good, *bad[10:]]
    await at.queue.put(topic, bodies)
    found: list[Received] = []
    while more := await at.receive(topic, limit=100, readings=[Reading("value")]):
        found += more
    same_bodies([each.delivery.body for each in found], bodies, "the messages of a receive with readings")
    step = Step((), messages=[Message(topic, body, leased=True) for body in bodies])
    leased = await at.applied(step, readings=[Reading("value")])
    equal([each.delivery.body for each in leased], bodies, "the messages that a step leased")
    for each in (*found, *leased):
        wanted = [b"there"] if each.delivery.body == good else None
        equal(records_of(each), wanted, f"the records of the message {each.delivery.body!r}")


@rule("STEPS-READ-03")
async def reads_last(ctx: Context) -> None:
    """A reading sees all effects from before its message was leased, and those of its own step.

    Why: The worker that puts a call does not read it a second time.

    Test: A step writes and marks the records of the message that it leases. A client writes a record and then puts its
    message, twenty times, while a receive waits for each.
    """
    at, topic = await stepped_backend(ctx), ctx.topic()
    call = ctx.key("call")
    mark = ctx.own_key(Key("pending_returns", call.call_hash))
    await at.store.write([(mark, b"old")])
    message = Message(topic, schedule_message("root", call.call_hash), leased=True)
    step = Step((), writes=[(call, b"call")], messages=[message], marks=[(mark, b"mark")])
    readings = [Reading("call"), Reading("pending_returns")]
    (found,) = await at.applied(step, readings=readings)
    equal(records_of(found), [b"call", b"mark"], "the records that a step wrote with its leased message")
    for number in range(20):
        key = ctx.key("call")
        async with TaskGroup() as tasks:
            waiting = tasks.create_task(at.one(topic, readings=readings))
            await at.store.write([(key, b"%d" % number)])
            await at.queue.put(topic, [schedule_message("root", key.call_hash)])
        equal(records_of(waiting.result()), [b"%d" % number, None], "a record that was written before its message")


@rule("STEPS-SIZE-01")
async def too_large(ctx: Context) -> None:
    """A body or a value of one byte more than declared is refused, and no step of the commit is applied.

    Why: The engine tells the caller. After half a commit, it could not repeat the rest.

    Test: A commit has a good step before one with a body, a written value or a mark that is too large. The rule does
    not apply if the manifest declares more than 256 MiB.
    """
    manifest = ctx.target.manifest
    body = manifest.queue.max_body if manifest.queue else 0
    value = manifest.store.max_value if manifest.store else 0
    if max(body, value) > LARGEST_REFUSED:
        raise NotApplicableError(f"a size over the declared {max(body, value)} bytes is too large for the kit")
    at, topic, key, counter = await stepped_backend(ctx), ctx.topic(), ctx.key(), ctx.counter()
    good = Step((), [Count(counter, 1, 10)], [(key, b"x")], [Message(topic, b"x")])
    large = bytes(value + 1)
    for step, kind in (
        (Step((), messages=[Message(topic, bytes(body + 1))]), BodyTooLargeError),
        (Step((), writes=[(key, large)]), ValueTooLargeError),
        (Step((), marks=[(key, large)]), ValueTooLargeError),
    ):
        refused(await raised(at.steps.commit([good, step])), kind, "a step with one byte more than declared")
    equal(await at.store.read([key]), [None], "the record of a step in a refused commit")
    equal(await at.counts(counter), [0], "the counter of a step in a refused commit")
    await ctx.none_left(at.queue, topic, "the commits were refused")


@rule("STEPS-SIZE-02")
async def large_batches(ctx: Context) -> None:
    """A commit of 1,000 steps works, and so does a step with 1,000 of each item.

    Why: A wide gather puts its calls in batches of 1,000.

    Test: 1,000 steps compare, count, write, put and mark. One step acknowledges all their messages, compares and
    changes all their records, and leases 1,000 messages, which another one acknowledges.
    """
    at, topic, counter = await stepped_backend(ctx), ctx.topic(), ctx.counter()
    keys = [ctx.key("pending_returns") for _ in range(1000)]
    bodies = [b"%d" % number for number in range(1000)]
    steps = [
        Step([(key, None)], [Count(counter, 1, 1000)], [(key, body)], [Message(topic, body)])
        for key, body in zip(keys, bodies, strict=True)
    ]
    equal(await at.commit(*steps), [NOTHING_LEASED] * 1000, "the results of 1,000 steps")
    equal(await at.counts(counter), [1000], "the counter of 1,000 steps")
    equal(await at.store.read(keys), bodies, "the records of 1,000 steps")
    found = await ctx.take_all(at.queue, topic, 1000, within=2 * ctx.grace)
    same_bodies([each.body for each in found], bodies, "the messages of 1,000 steps")
    wide = Step(
        [*zip(keys, bodies, strict=True)],
        writes=[(key, b"") for key in keys],
        messages=[Message(topic, body, leased=True) for body in bodies],
        marks=[(key, None) for key in keys[500:]],
        acks=found,
    )
    leased = [each.delivery for each in await at.applied(wide)]
    equal([each.body for each in leased], bodies, "the messages that one step leases")
    equal(await at.store.read(keys), [b""] * 500 + [None] * 500, "the records that one step changes")
    await at.applied(Step((), acks=leased))
    stats = await at.queue.stats(topic)
    equal((stats.ready, stats.leased), (0, 0), "the ready and leased messages at the end")
