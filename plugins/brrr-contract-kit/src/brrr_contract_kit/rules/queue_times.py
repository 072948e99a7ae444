"""Rules on the times of a queue: fractions of a second, and what is counted when a lease has expired."""

from asyncio import TaskGroup, sleep
from collections.abc import Awaitable, Callable
from math import ceil
from typing import Final

from brrr_contract_kit.registry import LONG, rule
from brrr_contract_kit.target import GRACE
from brrr_contract_kit.testbed.checks import broken, check, equal
from brrr_contract_kit.testbed.context import IN_TIME, POLL, Context, NotApplicableError
from brrr_core.backend import Delivery, Queue, QueueStats

DELAYS: Final = (0.4, 1.6)
LEASE: Final = 1.5
EXTENDED_AFTER: Final = 0.5

EARLY: Final = 0.02
"""Seconds by which two clocks may differ within two seconds."""

ROUNDED: Final = 0.3
"""A message that is later than these seconds in each try was rounded up to whole seconds. A busy machine is not so late
each time, if the time of an operation is subtracted."""

TRIES: Final = 3

Case = Callable[[str], Awaitable[tuple[float, float]]]
"""Leaves one message on a topic. Returns two times of the loop: the message must not arrive before the first one, and a
backend that does not round delivers it soon after the second one."""


async def _in_time(ctx: Context, queue: Queue, cases: dict[str, Case]) -> None:
    """Check that each message arrives in time: not early, within the grace, and not rounded up in each try."""
    slack = ROUNDED * max(1.0, ctx.grace / GRACE)
    left, late = cases, dict[str, float]()
    for _ in range(TRIES):
        async with TaskGroup() as tasks:
            running = {name: tasks.create_task(_lateness(ctx, queue, name, left[name])) for name in left}
        late = {name: task.result() for name, task in running.items() if task.result() > slack}
        left = {name: left[name] for name in late}
        if not left:
            return
    shown = ", ".join(f"{name} by {seconds:.2f} s" for name, seconds in late.items())
    broken(f"too late in each of {TRIES} tries: {shown}. A backend that rounds declares its `resolution`")


async def _lateness(ctx: Context, queue: Queue, name: str, case: Case) -> float:
    """Return the seconds by which the message of a case was late, less the time that an operation takes just then."""
    topic, empty = ctx.topic(), ctx.topic()
    first, last = await case(topic)
    found = await ctx.take(queue, topic, wait=max(0.0, last - ctx.now()) + ctx.grace)
    came = ctx.now()
    check(len(found) == 1, f"{name}: the message did not come within the grace of {ctx.grace:g} s")
    check(came >= first - EARLY, f"{name}: the message came {first - came:.3f} s early")
    await ctx.take(queue, empty)
    operation = ctx.now() - came
    await queue.ack(found)
    return came - last - operation


def _rounded(ctx: Context, seconds: float) -> float:
    """Return a time as the backend may round it."""
    declared = ctx.target.manifest.queue
    step = declared.resolution if declared else 0
    return float(ceil(seconds / step) * step) if step else seconds


@rule("QUEUE-DELAY-05", needs="queue.delay")
async def fractions(ctx: Context) -> None:
    """A delay may be a fraction of a second. It never ends early, and is not rounded beyond the declared `resolution`.

    Why: A backoff begins with fractions of a second. If these became 0, a failing call would be retried in a busy loop.

    Test: Messages are put and released with delays of 0.4 and 1.6 seconds, all at the same time. None comes early. Each
    comes within the grace, and in one of three tries within 0.3 seconds, apart from the time of a receive that finds
    nothing.
    """
    queue = await ctx.queue()
    cases: dict[str, Case] = {}
    for delay in DELAYS:

        async def put(topic: str, delay: float = delay) -> tuple[float, float]:
            begun = ctx.now()
            await queue.put(topic, [b"later"], delay=delay)
            return begun + delay, ctx.now() + _rounded(ctx, delay)

        async def release(topic: str, delay: float = delay) -> tuple[float, float]:
            await queue.put(topic, [b"failed"])
            delivery = await ctx.take_one(queue, topic)
            begun = ctx.now()
            await queue.release([delivery], delay=delay)
            return begun + delay, ctx.now() + _rounded(ctx, delay)

        cases |= {f"a put with a delay of {delay:g} s": put, f"a release with a delay of {delay:g} s": release}
    await _in_time(ctx, queue, cases)


@rule("QUEUE-LEASE-09")
async def fractional_lease(ctx: Context) -> None:
    """A lease may be a fraction of a second, as a delay may.

    Why: A lease that is cut to whole seconds expires while the worker runs the call. Then another worker runs it, too.

    Test: A backend has a lease of 1.5 seconds. One message is received and left, and one is extended after 0.5 seconds.
    None comes back early. Each comes within the grace, and in one of three tries within 0.3 seconds, apart from the
    time of a receive that finds nothing. The rule applies if the lease can be set.
    """
    if not ctx.target.takes_lease:
        raise NotApplicableError("the lease cannot be set")
    async with ctx.target.make(lease=LEASE) as backend:
        queue, lease = backend.queue, _rounded(ctx, LEASE)
        equal(float(queue.lease), lease, "the lease of a queue that was opened with a lease of 1.5 s")

        async def leased(topic: str) -> tuple[Delivery, float, float]:
            await queue.put(topic, [b"leased"])
            begun = ctx.now()
            return await ctx.take_one(queue, topic), begun + lease, ctx.now() + lease

        async def left(topic: str) -> tuple[float, float]:
            _, first, last = await leased(topic)
            return first, last

        async def extended(topic: str) -> tuple[float, float]:
            delivery, _, _ = await leased(topic)
            await sleep(EXTENDED_AFTER)
            begun = ctx.now()
            await queue.extend([delivery])
            return begun + lease, ctx.now() + lease

        await _in_time(ctx, queue, {"a lease of 1.5 s": left, "an extended lease of 1.5 s": extended})


@rule("QUEUE-STATS-03", needs="queue.exact_stats", limit=LONG)
async def expired_counted(ctx: Context) -> None:
    """When a lease has expired, `stats` counts its message as ready, even if no receive has looked since.

    Why: An operator, or an autoscaler, starts workers for ready messages. If the messages of dead workers counted as
    leased until a worker came, none would be started.

    Test: Two of three messages are leased and left. Without a receive, the counts become 3, 0, 0, 0 when the leases
    have expired, and not before.
    """
    queue, topic = await ctx.queue(short_lease=True), ctx.topic()
    await queue.put(topic, [b"one", b"two", b"three"])
    begun = ctx.now()
    await ctx.take_all(queue, topic, 2)
    last, counts = ctx.now() + queue.lease, QueueStats(1, 2, 0, 0)
    while counts == QueueStats(1, 2, 0, 0) and ctx.now() < last + ctx.grace:
        await sleep(POLL)
        counts = await queue.stats(topic)
    early = begun + IN_TIME * queue.lease - ctx.now()
    check(early <= 0, f"the counts changed to {tuple(counts)} {early:.3f} s before the leases expired")

    async def all_ready() -> bool:
        return await queue.stats(topic) == QueueStats(3, 0, 0, 0)

    await ctx.until(all_ready, "three messages are counted as ready, while no receive looks")
