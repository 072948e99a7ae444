"""Operations with an effect that rules interrupt, by a cancellation or a kill, and the check of what they leave.

The contract says: an interrupted operation has done each item of its batch completely or not at all, and no message is
lost. A message that is moved to the dead letters or back may be at both places (`brrr_core.backend.contracts`).
"""

from asyncio import gather, sleep
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from brrr_contract_kit.registry import declares
from brrr_contract_kit.testbed.checks import check
from brrr_contract_kit.testbed.context import POLL, Context
from brrr_core.backend import Delivery, Key, Queue, Swap

__all__ = [
    "EFFECTS",
    "NEW",
    "OLD",
    "Effect",
    "batches_for",
    "begun",
    "check_left",
    "effects_of",
    "prepared",
    "swaps_of",
]
__all__ += ["values_of"]

Run = Callable[[Queue, str, Sequence[Delivery], Sequence[bytes]], Awaitable[object]]
"""Runs the operation on a topic, with the deliveries that it holds, and the bodies of its messages."""

BATCH: Final = 3
LARGE_BATCH: Final = 30
LARGE_EVERY: Final = 6
DELAY: Final = 0.2
REASON: Final = "interrupted"
OLD: Final = b"a"
NEW: Final = b"b"
SMALL: Final = 1024
MESSAGE: Final = "message"
LETTER: Final = "dead letter"
HIDDEN: Final = 15
"""Graces within which dead letters reappear that a killed process was moving. A server may hide them meanwhile."""


@dataclass(frozen=True, slots=True)
class Effect:
    """An operation of a queue.

    Attributes:
        run: The operation.
        begins: Where its messages are before it: on the topic, among the dead letters, or nowhere.
        ends: Where each message may be afterwards.
        lasting: Whether each message must exist afterwards.
    """

    run: Run
    begins: str | None
    ends: frozenset[str]
    lasting: bool = True


async def _bury(queue: Queue, held: Sequence[Delivery]) -> None:
    for each in held[:BATCH]:
        await queue.bury(each, REASON)


_AS_MESSAGE, _AS_LETTER, _AS_EITHER = frozenset({MESSAGE}), frozenset({LETTER}), frozenset({MESSAGE, LETTER})

EFFECTS: Final[dict[str, Effect]] = {
    "put": Effect(lambda queue, topic, _, new: queue.put(topic, new), None, _AS_MESSAGE, lasting=False),
    "ack": Effect(lambda queue, _, held, __: queue.ack(held), MESSAGE, _AS_MESSAGE, lasting=False),
    "release": Effect(lambda queue, _, held, __: queue.release(held), MESSAGE, _AS_MESSAGE),
    "delayed put": Effect(
        lambda queue, topic, _, new: queue.put(topic, new, delay=DELAY), None, _AS_MESSAGE, lasting=False
    ),
    "delayed release": Effect(lambda queue, _, held, __: queue.release(held, delay=DELAY), MESSAGE, _AS_MESSAGE),
    "extend": Effect(lambda queue, _, held, __: queue.extend(held), MESSAGE, _AS_MESSAGE),
    "bury": Effect(lambda queue, _, held, __: _bury(queue, held), MESSAGE, _AS_EITHER),
    "redrive": Effect(lambda queue, topic, _, new: queue.redrive(topic, limit=len(new)), LETTER, _AS_EITHER),
    "drop": Effect(lambda queue, topic, _, new: queue.drop(topic, limit=len(new)), LETTER, _AS_LETTER, lasting=False),
}


def effects_of(ctx: Context) -> dict[str, Effect]:
    """Return the operations that the manifest of the target allows."""
    delays = declares(ctx.target.manifest, "queue.delay")
    return {name: each for name, each in EFFECTS.items() if delays or not name.startswith("delayed")}


def batches_for(name: str, points: Sequence[int]) -> list[list[bytes]]:
    """Return the bodies of the messages that are interrupted at each of these points."""
    sizes = [LARGE_BATCH if place % LARGE_EVERY == LARGE_EVERY - 1 else BATCH for place in range(len(points))]
    return [[f"{name} {place}.{number}".encode() for number in range(size)] for place, size in enumerate(sizes)]


async def prepared(ctx: Context, queue: Queue, effect: Effect, batches: Sequence[Sequence[bytes]]) -> str:
    """Return a topic with the messages of all batches, as they are before the operation; `queue` has a long lease."""
    topic, bodies = ctx.topic(), [body for batch in batches for body in batch]
    if effect.begins is not None:
        await queue.put(topic, bodies)
    if effect.begins == LETTER:
        left = len(bodies)
        while left:
            held = await ctx.take_all(queue, topic, min(left, 50))
            await gather(*(queue.bury(each, REASON) for each in held))
            left -= len(held)
    return topic


async def begun(
    queue: Queue, topic: str, effect: Effect, batch: Sequence[bytes], *, wait: float
) -> Callable[[], Awaitable[object]]:
    """Return the operation on one batch, which is ready to run."""
    held: list[Delivery] = []
    if effect.begins == MESSAGE:
        held = await queue.receive(topic, limit=len(batch), wait=wait)
        check(bool(held), f"no message of {len(batch)} or more that were put arrived within {wait:g} s")
    return partial(effect.run, queue, topic, held, batch)


async def check_left(
    ctx: Context, queue: Queue, topic: str, name: str, batches: Sequence[Sequence[bytes]], *, killed: bool
) -> None:
    """Check that interrupted operations have left each message where it may be.

    A message that may be at two places may also be moved twice by later operations. All others exist at most once.

    Args:
        ctx: The context.
        queue: The queue that looks for the messages.
        topic: The topic of the operations.
        name: The name of the operation.
        batches: The bodies of all messages.
        killed: Whether the processes of the operations were killed.
    """
    after = "after its process was killed" if killed else "after it was cancelled"
    effect, bodies = EFFECTS[name], {body for batch in batches for body in batch}
    seen: dict[str, Counter[bytes]] = {MESSAGE: Counter(), LETTER: Counter()}
    late: set[bytes] = set()

    async def complete() -> bool:
        begun_at = ctx.now()
        found = await ctx.take(queue, topic, limit=1000)
        await queue.ack(found)
        seen[MESSAGE].update(each.body for each in found)
        if ctx.now() - begun_at >= queue.lease:
            late.update(each.body for each in found)  # acknowledged after their leases expired, so they come again
        if not found:
            letters = await queue.dead(topic, limit=2 * len(bodies))
            seen[LETTER] = Counter(each.body for each in letters)
        return not found and (not effect.lasting or bodies <= seen[MESSAGE].keys() | seen[LETTER].keys())

    within = queue.lease + (HIDDEN if killed and effect.begins == LETTER else 1) * ctx.grace
    known, deadline = -1, 0.0
    while not await complete():
        lost = bodies - seen[MESSAGE].keys() - seen[LETTER].keys()
        if len(bodies) - len(lost) > known:  # a slow server may take longer for all of them
            known, deadline = len(bodies) - len(lost), ctx.now() + within
        what = f"`{name}`: {len(lost)} of {len(bodies)} messages were lost, {after}: {sorted(lost)[:5]}"
        check(ctx.now() < deadline, what)
        await sleep(POLL)
    for place, counts in seen.items():
        check(place in effect.ends or not counts, f"`{name}` left a {place} {after}: {sorted(counts)[:5]}")
        repeated = [body for body, count in counts.items() if count > 1 and body not in late]
        twice = sorted(repeated) if effect.ends is not _AS_EITHER else []
        check(not twice, f"`{name}` left {len(twice)} messages twice as {place}, {after}: {twice[:5]}")
        check(counts.keys() <= bodies, f"`{name}` left a {place} that was never put, {after}: {sorted(counts)[:5]}")


def values_of(keys: Sequence[Key], large: int, letter: bytes) -> list[tuple[Key, bytes]]:
    """Return the records of interrupted operations: the first has `large` bytes, and the others are small."""
    return [(key, letter * (SMALL if place else large)) for place, key in enumerate(keys)]


def swaps_of(swapped: Sequence[Key], deleted: Sequence[Key], large: int) -> list[Swap]:
    """Return swaps of old records: some to new ones, the others to none."""
    replaced = zip(values_of(swapped, large, OLD), values_of(swapped, large, NEW), strict=True)
    gone = [Swap(key, old, None) for key, old in values_of(deleted, large, OLD)]
    return [*(Swap(key, old, new) for (key, old), (_, new) in replaced), *gone]
