"""Rules QUEUE-LETTERS and QUEUE-INSPECT: the optional parts of a queue for operators. The manifest declares neither."""

from collections.abc import Awaitable, Callable

from brrr_contract_kit.registry import declares, rule
from brrr_contract_kit.testbed.checks import NotApplicableError, check, equal, refused
from brrr_contract_kit.testbed.context import Context, raised
from brrr_core.backend import Inspector, LetterBox, Peeked, Queue, QueueStats
from brrr_core.errors import ArgumentError, BackendClosedError, CapabilityError

MAX_READ = 50
"""Dead letters after which the rule stops to read pages that do not end."""

LONG_DELAY = 600.0
"""Seconds of a delay that certainly does not end while a rule runs."""

UNKNOWN = ("", "0", "1", "-", "unknown", "☃", "9" * 40)
"""Texts that are not ids of dead letters."""


async def _box(ctx: Context) -> tuple[Queue, LetterBox]:
    queue = await ctx.queue()
    if queue.letters is None:
        raise NotApplicableError("the queue does not give its dead letters ids")
    return queue, queue.letters


async def _inspector(ctx: Context) -> tuple[Queue, Inspector]:
    queue = await ctx.queue()
    if queue.inspector is None:
        raise NotApplicableError("the queue has no inspector")
    return queue, queue.inspector


async def _buried(ctx: Context, queue: Queue, topic: str, *bodies: bytes) -> None:
    for body in bodies:
        await queue.put(topic, [body])
        await queue.bury(await ctx.take_one(queue, topic), "chosen")


async def _bodies(queue: Queue, topic: str) -> list[bytes]:
    return [letter.body for letter in await queue.dead(topic, limit=100)]


@rule("QUEUE-LETTERS-01")
async def pages(ctx: Context) -> None:
    """Pages list every dead letter as `dead` does, oldest first, even if letters before the page are removed.

    Why: An operator who acts on chosen dead letters reads page by page, and removes what was read.

    Test: Five dead letters are read two by two, until a page is empty. The letter after which the second page begins is
    dropped before. A letter may be read twice.
    """
    queue, box = await _box(ctx)
    topic = ctx.topic()
    await _buried(ctx, queue, topic, b"a", b"b", b"c", b"d", b"e")
    whole = await queue.dead(topic, limit=10)
    first = await box.page(topic, limit=2)
    equal(await box.drop(topic, [first[1].id]), 1, "the result of drop on the second letter")
    found, page = first, first
    while page and len(found) < MAX_READ:
        page = await box.page(topic, limit=2, after=page[-1].id)
        found = found + page
    equal(page, [], "the page after the last dead letter")
    equal([each.letter for each in dict.fromkeys(found)], whole, "the dead letters of all pages")
    ids = list(dict.fromkeys(each.id for each in found))
    equal(len(ids), 5, "the number of different ids of five dead letters")
    check(all(each.isprintable() and not set(each) & set(" \t") for each in ids), f"an id has white space: {ids}")


@rule("QUEUE-LETTERS-02")
async def chosen_are_redriven(ctx: Context) -> None:
    """`redrive` puts back the dead letters with the given ids as attempt 1, and no others, and returns their number.

    Why: Redriving one call must not run the hundred others that failed for another reason.

    Test: Two of three dead letters are redriven twice. The ids include unknown ones, and that of a dead letter of
    another topic.
    """
    queue, box = await _box(ctx)
    topic, other = ctx.topic(), ctx.topic()
    await _buried(ctx, queue, topic, b"a", b"b", b"c")
    await _buried(ctx, queue, other, b"x")
    a, _, c = [each.id for each in await box.page(topic, limit=10)]
    (x,) = [each.id for each in await box.page(other, limit=10)]
    wanted = [a, *UNKNOWN, x, c]
    equal([each.letter.body for each in await box.find(topic, wanted)], [b"a", b"c"], "the letters that `find` returns")
    equal(await box.redrive(topic, wanted), 2, "the result of redrive")
    equal(await box.redrive(topic, wanted), 0, "the result of the second redrive")
    again = await ctx.take_all(queue, topic, 2)
    equal(sorted((each.body, each.attempt) for each in again), [(b"a", 1), (b"c", 1)], "bodies and attempts")
    equal(await _bodies(queue, topic), [b"b"], "the dead letters that are left")
    equal(await _bodies(queue, other), [b"x"], "the dead letters of the other topic")


@rule("QUEUE-LETTERS-03")
async def ids_are_not_reused(ctx: Context) -> None:
    """`drop` deletes the dead letters with the given ids, and no later dead letter gets their ids.

    Why: An operator lists dead letters, thinks, and then drops one. Meanwhile others may have dropped it, and new ones
    may exist.

    Test: The only dead letter of a topic is dropped by its id, a new one comes, and the id is dropped once more.
    """
    queue, box = await _box(ctx)
    topic = ctx.topic()
    await _buried(ctx, queue, topic, b"old")
    (old,) = await box.page(topic, limit=10)
    equal(await box.drop(topic, [old.id, *UNKNOWN]), 1, "the result of drop")
    equal(await _bodies(queue, topic), [], "the dead letters after the drop")
    await _buried(ctx, queue, topic, b"new")
    equal(await box.find(topic, [old.id]), [], "the letters with the id of the dropped one")
    equal(await box.drop(topic, [old.id]), 0, "the result of the second drop")
    equal(await _bodies(queue, topic), [b"new"], "the dead letters after the second drop")


@rule("QUEUE-INSPECT-01")
async def topics_are_listed(ctx: Context) -> None:
    """`topics` has each topic with a message or a dead letter under its own name, and `peek` does not touch messages.

    Why: A misspelt topic must not look like an empty one, and looking at messages must not delay or count them.

    Test: Topics with hostile names have a ready message or a dead letter each. They are listed and peeked at, and the
    message is then received as attempt 1.
    """
    queue, inspector = await _inspector(ctx)
    ready = [ctx.topic(name) for name in ("", " a/b", "{a}b", "a*?[b]", "ü☃", ".dead", "__a", "=41")]
    dead = ctx.topic(":{x}")
    for topic in ready:
        await queue.put(topic, [topic.encode()])
    await _buried(ctx, queue, dead, b"dead")
    wanted = {*ready, dead}

    async def listed() -> bool:
        return set(await inspector.topics()) >= wanted

    await ctx.until(listed, f"the topics {sorted(wanted)} are listed")
    mine = [topic for topic in await inspector.topics() if ctx.prefix in topic]
    equal(mine, sorted(wanted), "the topics of this rule, sorted")
    for topic in ready:
        try:
            seen = await inspector.peek(topic, limit=10)
        except CapabilityError:
            continue
        equal(seen, [Peeked(topic.encode(), "ready")], "the messages that `peek` returns")
    delivery = await ctx.take_one(queue, ready[0])
    equal((delivery.body, delivery.attempt), (ready[0].encode(), 1), "body and attempt after the peek")


@rule("QUEUE-INSPECT-02")
async def purge_deletes_messages(ctx: Context) -> None:
    """`purge` deletes the ready and the delayed messages of one topic, and neither dead letters nor other topics.

    Why: An operator purges a topic to get rid of its messages for good, and looks at its dead letters afterwards.

    Test: A topic with ready, delayed and dead messages is purged, while another topic has a message. Then it is used
    again.
    """
    queue, inspector = await _inspector(ctx)
    topic, other = ctx.topic(), ctx.topic()
    await _buried(ctx, queue, topic, b"dead")
    await queue.put(topic, [b"one", b"two"])
    delays = declares(ctx.target.manifest, "queue.delay")
    if delays:
        await queue.put(topic, [b"later"], delay=LONG_DELAY)
    await queue.put(other, [b"other"])
    full = QueueStats(ready=2, leased=0, delayed=int(delays), dead=1)

    async def counted(wanted: QueueStats) -> bool:
        return await queue.stats(topic) == wanted

    await ctx.until(lambda: counted(full), "the messages are counted")
    equal(await inspector.purge(topic), 2 + delays, "the result of purge")
    await ctx.until(lambda: counted(QueueStats(0, 0, 0, 1)), "only the dead letter is left")
    equal(await _bodies(queue, topic), [b"dead"], "the dead letters after the purge")
    equal((await ctx.take_one(queue, other)).body, b"other", "the message of the other topic")
    await queue.put(topic, [b"new"])
    equal((await ctx.take_one(queue, topic)).body, b"new", "the message that was put after the purge")


@rule("QUEUE-INSPECT-03")
async def activity_is_true(ctx: Context) -> None:
    """`activity` reports nothing false about the oldest ready message, receivers and deliveries.

    Why: "No worker receives" makes an operator look at the workers. If it is wrong, the search begins at the wrong end.

    Test: The activity is read with no message, with one that is ready, and with one that is leased.
    """
    queue, inspector = await _inspector(ctx)
    topic = ctx.topic()
    empty = await inspector.activity(topic)
    check(
        empty.oldest_ready is None, f"no message is ready, but the oldest one is reported as {empty.oldest_ready} s old"
    )
    check(empty.receiving is not True, "no receive has begun, but `receiving` is True")
    begun = ctx.now()
    await queue.put(topic, [b"x"])
    ready = await inspector.activity(topic)
    oldest, most = ready.oldest_ready, ctx.now() - begun + 1
    check(oldest is None or 0 <= oldest <= most, f"the message is at most {most:.1f} s old, and not {oldest} s")
    await ctx.take_one(queue, topic)
    leased = await inspector.activity(topic)
    check(
        leased.oldest_ready is None,
        f"no message is ready, but the oldest one is reported as {leased.oldest_ready} s old",
    )
    check(leased.receiving is not False, "a message is leased, but `receiving` is False")
    if leased.delivered is not None:
        equal(leased.delivered - (ready.delivered or 0), 1, "the deliveries after one delivery")


@rule("QUEUE-INSPECT-04")
async def operators_are_refused(ctx: Context) -> None:
    """The optional parts refuse the empty topic and a limit of 0, and raise `BackendClosedError` when closed.

    Why: They are operations like all others.

    Test: Each operation is called with wrong arguments, and once more after the backend was closed.
    """
    backend = await ctx.backend()
    box, inspector = backend.queue.letters, backend.queue.inspector
    if box is None and inspector is None:
        raise NotApplicableError("the queue has neither part")
    topic = ctx.topic()
    wrong: list[Callable[[], Awaitable[object]]] = []
    right: list[Callable[[], Awaitable[object]]] = []
    if box is not None:
        wrong += [lambda: box.page("", limit=1), lambda: box.page(topic, limit=0), lambda: box.find("", ["1"])]
        wrong += [lambda: box.redrive("", ["1"]), lambda: box.drop("", ["1"])]
        right += [lambda: box.page(topic, limit=1), lambda: box.drop(topic, ["1"])]
    if inspector is not None:
        wrong += [lambda: inspector.peek("", limit=1), lambda: inspector.peek(topic, limit=0)]
        wrong += [lambda: inspector.purge(""), lambda: inspector.activity("")]
        right += [inspector.topics, lambda: inspector.purge(topic), lambda: inspector.activity(topic)]
    for begin in wrong:
        refused(await raised(begin()), ArgumentError, "an operation with a wrong argument")
    await backend.close()
    for begin in right:
        refused(await raised(begin()), BackendClosedError, "an operation on a closed backend")
