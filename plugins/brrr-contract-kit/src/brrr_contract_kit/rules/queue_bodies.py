"""Rules QUEUE-BODY: bodies are delivered unchanged."""

from typing import Final

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.checks import check, equal, refused, same_bodies
from brrr_contract_kit.testbed.context import Context, NotApplicableError, raised
from brrr_core.errors import BodyTooLargeError

MIB: Final = 1024 * 1024
LARGEST_REFUSED: Final = 256 * MIB
"""The largest declared size for which the kit makes a larger body, which must be refused."""

HOSTILE: Final = [
    b"",
    b"\0",
    b"a\0b",
    b"ends in NUL\0",
    bytes(range(256)),
    b"\xff\xfe not UTF-8 \xc3",
    b" \t\r\n lines \r\n",
    "snow ☃, emoji 🦆".encode(),
    b'{"json": [1, null]}',
    b"l1:ae",
    b"%00%s{0}$1'\"\\",
    b"$-1\r\n",
]


@rule("QUEUE-BODY-01")
async def bytes_survive(ctx: Context) -> None:
    """A body of any bytes is delivered unchanged: empty, with NUL, not UTF-8, or similar to the syntax of a protocol.

    Why: A message body is a protocol record (docs/reference/protocol.md). If it is cut or re-encoded, it names another
    call, or none.

    Test: A dozen hostile bodies are put in one batch and received.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, HOSTILE)
    deliveries = await ctx.take_all(queue, topic, len(HOSTILE))
    same_bodies([each.body for each in deliveries], HOSTILE, "hostile bodies")
    for each in deliveries:
        equal(type(each.body), bytes, "the type of a body")
        equal(each.topic, topic, "the topic of a delivery")


@rule("QUEUE-BODY-02")
async def equal_bodies(ctx: Context) -> None:
    """Messages with equal bodies are separate messages: each is delivered, and only its own receipt settles it.

    Why: Two parents may wake one call with equal messages. If one of them vanished, a wake-up would be lost.

    Test: Five equal bodies are put and received. Two are acknowledged and three released; three are delivered again.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [b"same"] * 5)
    deliveries = await ctx.take_all(queue, topic, 5)
    await queue.ack(deliveries[:2])
    await queue.release(deliveries[2:])
    again = await ctx.take_all(queue, topic, 3)
    await queue.ack(again)
    await ctx.none_left(queue, topic, "all five equal messages were acknowledged")


@rule("QUEUE-BODY-03")
async def largest_body(ctx: Context) -> None:
    """A body of the declared size is delivered completely.

    Why: Users rely on the manifest. A queue that cuts a body breaks the call that it names.

    Test: A body of `max_body` bytes, but at most 1 MiB, is put and received.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    declared = ctx.target.manifest.queue
    size = min(declared.max_body if declared else 0, MIB)
    body = ctx.random.randbytes(size)
    await queue.put(topic, [body])
    delivery = await ctx.take_one(queue, topic)
    check(delivery.body == body, f"a body of {size} bytes was delivered as different {len(delivery.body)} bytes")


@rule("QUEUE-BODY-04")
async def too_large_body(ctx: Context) -> None:
    """A body of one byte more than declared is refused with `BodyTooLargeError`, and no message of its batch is put.

    Why: With a clear error, the engine can dead-letter the message with a reason. After half a batch, a repeated put
    would duplicate messages.

    Test: A batch of a small body and one larger than `max_body` is put. Afterwards the topic is empty. The rule does
    not apply if the manifest declares more than 256 MiB.
    """
    declared = ctx.target.manifest.queue
    most = declared.max_body if declared else 0
    if most > LARGEST_REFUSED:
        raise NotApplicableError(f"a body larger than the declared {most} bytes is too large for the kit")
    queue, topic = await ctx.queue(), ctx.topic()
    error = await raised(queue.put(topic, [b"small", bytes(most + 1)]))
    refused(error, BodyTooLargeError, f"a body of {most + 1} bytes (declared: {most})")
    await ctx.none_left(queue, topic, "a refused batch puts no message")
