"""Settling deliveries: what a holder does with a message, whole even where whoever asked for it is cancelled.

A request that was sent is not taken back by a cancellation. So each settling is a task of its own, and a delivery knows
its task: whoever settles it again joins that task, and sends nothing that could take the message from its next holder.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from math import ceil
from typing import Any, Final

from brrr_core.backend import Delivery
from brrr_core.errors import BackendClosedError, BackendError
from brrr_sqs.batches import Entry, in_batches
from brrr_sqs.messages import Receipt, Received, letter, message
from brrr_sqs.names import names_of
from brrr_sqs.options import LONGEST_LEASE
from brrr_sqs.owned import outcome
from brrr_sqs.queues import Queues

__all__ = ["Held", "Settling"]

Held = tuple[Delivery, Receipt]

STALE: Final = frozenset(("ReceiptHandleIsInvalid", "MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight"))
GONE: Final = "not available for visibility timeout change"
"""What SQS says beside `InvalidParameterValue` where a message was deleted."""


class Settling:
    """Acks, releases, extends and buries what this process holds.

    Args:
        queues: Asks SQS.
        prefix: What the queues' names begin with.
        lease: Seconds of a lease.
    """

    def __init__(self, queues: Queues, *, prefix: str, lease: float) -> None:
        self._queues = queues
        self._prefix = prefix
        self._lease = lease

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Delete messages."""
        await self._settle(deliveries, self._delete)

    async def release(self, deliveries: Iterable[Delivery], delay: float) -> None:
        """Let messages be seen after a delay."""

        async def run(topic: str, held: list[Held]) -> None:
            now = _now()
            short = [each for each in held if delay <= each[1].begun + LONGEST_LEASE - now]
            long = [each for each in held if delay > each[1].begun + LONGEST_LEASE - now]
            if short:
                await self._show(topic, short, delay)
            if long:
                # SQS hides no message for so long. A new one waits as those that are put with a delay do.
                entries = [message(each.body, delay=delay, attempts=each.attempt) for each, _ in long]
                await self._replace(topic, names_of(self._prefix, topic).main, long, entries)

        await self._settle(deliveries, run)

    async def extend(self, deliveries: Iterable[Delivery]) -> None:
        """Start leases anew, as far as SQS does.

        Raises:
            BackendError: A message has been held for twelve hours less its lease: SQS hides none for longer.
        """
        await self._settle(deliveries, self._hide)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Send the dead letter, then delete the message: what dies in between leaves both, never none."""

        async def run(topic: str, held: list[Held]) -> None:
            entries = [letter(each, reason) for each, _ in held]
            await self._replace(topic, names_of(self._prefix, topic).dead, held, entries)

        await self._settle([delivery], run)

    def put_off(self, early: Sequence[Received]) -> None:
        """Send anew what is not due yet. If that fails, its lease runs out, and the next receiver does it."""
        if early:
            self._queues.owned.start(self._put_off(early), "brrr sends anew what is not due")

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Let at once be seen what nobody here takes any more. If that fails, its lease runs out."""
        if deliveries:
            with suppress(BackendClosedError):  # the lease runs out then, too
                self._queues.owned.start(self.release(deliveries, 0), "brrr gives back what nobody waits for")

    async def _put_off(self, early: Sequence[Received]) -> None:
        for topic in {each.delivery.topic for each in early}:
            mine = [each for each in early if each.delivery.topic == topic]
            now = time.time()
            # What a receive has counted here was no attempt.
            entries = [
                message(each.delivery.body, delay=max(each.due - now, 0), attempts=each.delivery.attempt - 1)
                for each in mine
            ]
            held = [(each.delivery, each.receipt) for each in mine]
            await self._replace(topic, names_of(self._prefix, topic).main, held, entries)

    async def _settle(
        self, deliveries: Iterable[Delivery], run: Callable[[str, list[Held]], Coroutine[Any, Any, None]]
    ) -> None:
        """Run something for what is held, by topic, when nothing else is being done with it any more."""
        self._queues.client.check_open()
        given = {each.receipt: each for each in deliveries if isinstance(each.receipt, Receipt)}
        while True:
            held = [(each, receipt) for receipt, each in given.items() if receipt.held()]
            busy = {each.busy for _, each in held if each.busy is not None and not each.busy.done()}
            if not busy:
                break
            await asyncio.wait(busy)
        if not held:
            return
        task = self._queues.owned.start(_by_topic(held, run), "brrr settles deliveries")
        for _, receipt in held:
            receipt.busy = task
        await outcome(task)

    async def _delete(self, topic: str, held: list[Held]) -> None:
        await in_batches(
            self._queues,
            names_of(self._prefix, topic).main,
            "DeleteMessageBatch",
            [{"ReceiptHandle": receipt.handle} for _, receipt in held],
            done=lambda place: _set_settled(held[place][1]),
            passed=_stale,
            needed=False,
        )

    async def _show(self, topic: str, held: list[Held], delay: float) -> None:
        await self._change(topic, held, [ceil(delay)] * len(held), done=_set_settled)

    async def _hide(self, topic: str, held: list[Held]) -> None:
        now = _now()
        rests = {receipt: int(receipt.begun + LONGEST_LEASE - now) for _, receipt in held}
        able = [each for each in held if rests[each[1]] >= 1]
        seconds = [min(int(self._lease), rests[receipt]) for _, receipt in able]
        until = {receipt: now + each for (_, receipt), each in zip(able, seconds, strict=True)}

        def done(receipt: Receipt) -> None:
            receipt.until = until[receipt]

        await self._change(topic, able, seconds, done=done)
        if any(rest < self._lease for rest in rests.values()):
            raise BackendError(
                f"a message of the topic {topic!r} has been held for almost twelve hours, and SQS lets none be held "
                "longer: it comes again then",
                remedy="Split the call into shorter ones, or use a queue without such a limit.",
            )

    async def _change(
        self, topic: str, held: list[Held], seconds: Sequence[int], *, done: Callable[[Receipt], None]
    ) -> None:
        if not held:
            return
        await in_batches(
            self._queues,
            names_of(self._prefix, topic).main,
            "ChangeMessageVisibilityBatch",
            [
                {"ReceiptHandle": receipt.handle, "VisibilityTimeout": each}
                for (_, receipt), each in zip(held, seconds, strict=True)
            ],
            done=lambda place: done(held[place][1]),
            passed=_stale,
            needed=False,
        )

    async def _replace(self, topic: str, name: str, held: list[Held], entries: Sequence[Entry]) -> None:
        """Send what takes the place of messages, then delete those; what was sent already is not sent again."""

        def moved(place: int) -> None:
            left[place][0][1].moved = True

        left = [(each, entry) for each, entry in zip(held, entries, strict=True) if not each[1].moved]
        try:
            await in_batches(self._queues, name, "SendMessageBatch", [entry for _, entry in left], done=moved)
        finally:
            # Whose lease has run out meanwhile is another's by now; that one settles it.
            ready = [each for each in held if each[1].moved and each[1].held()]
            if ready:
                await self._delete(topic, ready)


async def _by_topic(held: Iterable[Held], run: Callable[[str, list[Held]], Coroutine[Any, Any, None]]) -> None:
    topics: dict[str, list[Held]] = {}
    for each in held:
        topics.setdefault(each[0].topic, []).append(each)
    errors: list[Exception] = []
    for topic, mine in topics.items():
        try:
            await run(topic, mine)
        except Exception as error:  # noqa: BLE001 - raised below, when the other topics are done
            errors.append(error)
    if errors:
        raise errors[0]


def _stale(failed: Entry) -> bool:
    """Whether SQS says that the message is another's, or nobody's, by now."""
    return failed.get("Code") in STALE or GONE in str(failed.get("Message", ""))


def _set_settled(receipt: Receipt) -> None:
    receipt.settled = True


def _now() -> float:
    return asyncio.get_running_loop().time()
