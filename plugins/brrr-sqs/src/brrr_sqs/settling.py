"""Settling of deliveries. A settlement runs to its end even if its caller is cancelled.

A cancellation cannot take back a request that was sent. So each settlement is a separate task, and the receipt
refers to it. A second settlement waits for that task, and sends nothing that could take the message from its next
holder.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from math import ceil
from typing import Any, Final

from brrr_core.backend import Delivery
from brrr_core.errors import BackendClosedError, BackendError
from brrr_sqs.entry_batches import Entry, run_in_batches
from brrr_sqs.messages import Receipt, Received, dead_letter_entry, message_entry
from brrr_sqs.options import MAX_LEASE_SECONDS
from brrr_sqs.queues import Queues, names_of

__all__ = ["Held", "Settling"]

Held = tuple[Delivery, Receipt]

STALE: Final = frozenset(("ReceiptHandleIsInvalid", "MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight"))
DELETED: Final = "not available for visibility timeout change"
"""SQS' message with `InvalidParameterValue` for a deleted message."""


class Settling:
    """Acknowledges, releases, extends and buries the deliveries of this process.

    Args:
        queues: Sends requests to SQS.
        prefix: Prefix of the queues' names.
        lease: Lease in seconds.
    """

    def __init__(self, queues: Queues, *, prefix: str, lease: float) -> None:
        self._queues = queues
        self._prefix = prefix
        self._lease = lease

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Delete messages."""
        await self._settle(deliveries, self._delete)

    async def release(self, deliveries: Iterable[Delivery], delay: float) -> None:
        """Make messages ready again after a delay."""

        async def run(topic: str, held: list[Held]) -> None:
            now = _now()
            short = [each for each in held if delay <= each[1].begun + MAX_LEASE_SECONDS - now]
            long = [each for each in held if delay > each[1].begun + MAX_LEASE_SECONDS - now]
            if short:
                await self._make_ready(topic, short, delay)
            if long:
                # SQS cannot hide a message for so long. Send a new one, as for a put with a long delay.
                entries = [message_entry(each.body, delay=delay, attempts=each.attempt) for each, _ in long]
                await self._replace(topic, names_of(self._prefix, topic).main, long, entries)

        await self._settle(deliveries, run)

    async def extend(self, deliveries: Iterable[Delivery]) -> None:
        """Restart leases, within SQS' limit.

        Raises:
            BackendError: A message has been held for almost twelve hours, the longest that SQS hides one.
        """
        await self._settle(deliveries, self._restart_lease)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Send the dead letter, then delete the message. A crash in between leaves both."""

        async def run(topic: str, held: list[Held]) -> None:
            entries = [dead_letter_entry(each, reason) for each, _ in held]
            await self._replace(topic, names_of(self._prefix, topic).dead, held, entries)

        await self._settle([delivery], run)

    def resend_early(self, early: Sequence[Received]) -> None:
        """Send messages again that are not due yet. If that fails, the next receiver does it after the lease."""
        if early:
            self._queues.gate.start(self._resend_early(early), name="brrr resends early messages")

    def release_later(self, deliveries: Sequence[Delivery]) -> None:
        """Release deliveries that no longer have a receiver, in a task. If that fails, their lease expires."""
        if deliveries:
            with suppress(BackendClosedError):  # the lease expires instead
                self._queues.gate.start(self.release(deliveries, 0), name="brrr releases deliveries without a receiver")

    async def _resend_early(self, early: Sequence[Received]) -> None:
        for topic in {each.delivery.topic for each in early}:
            mine = [each for each in early if each.delivery.topic == topic]
            now = time.time()
            # Receiving an early message does not count as an attempt.
            entries = [
                message_entry(each.delivery.body, delay=max(each.due - now, 0), attempts=each.delivery.attempt - 1)
                for each in mine
            ]
            held = [(each.delivery, each.receipt) for each in mine]
            await self._replace(topic, names_of(self._prefix, topic).main, held, entries)

    async def _settle(
        self, deliveries: Iterable[Delivery], run: Callable[[str, list[Held]], Coroutine[Any, Any, None]]
    ) -> None:
        """Run an operation on the deliveries that are still held, by topic, after the running tasks on them."""
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
        task = self._queues.gate.start(_by_topic(held, run), name="brrr settles deliveries")
        for _, receipt in held:
            receipt.busy = task
        await self._queues.gate.result(task)

    async def _delete(self, topic: str, held: list[Held]) -> None:
        await run_in_batches(
            self._queues,
            names_of(self._prefix, topic).main,
            "DeleteMessageBatch",
            [{"ReceiptHandle": receipt.handle} for _, receipt in held],
            done=lambda index: _set_settled(held[index][1]),
            passed=_stale,
            required=False,
        )

    async def _make_ready(self, topic: str, held: list[Held], delay: float) -> None:
        await self._change_visibility(topic, held, [ceil(delay)] * len(held), done=_set_settled)

    async def _restart_lease(self, topic: str, held: list[Held]) -> None:
        now = _now()
        seconds_left = {receipt: int(receipt.begun + MAX_LEASE_SECONDS - now) for _, receipt in held}
        extendable = [each for each in held if seconds_left[each[1]] >= 1]
        seconds = [min(int(self._lease), seconds_left[receipt]) for _, receipt in extendable]
        until = {receipt: now + each for (_, receipt), each in zip(extendable, seconds, strict=True)}

        def done(receipt: Receipt) -> None:
            # If the answer comes after the lease, the message may have had another receiver before the request.
            if receipt.held():
                receipt.until = until[receipt]

        await self._change_visibility(topic, extendable, seconds, done=done)
        if any(left < self._lease for left in seconds_left.values()):
            raise BackendError(
                f"a message of the topic {topic!r} has been held for almost twelve hours; SQS then delivers it again",
                remedy="Split the call into shorter ones, or use a queue without such a limit.",
            )

    async def _change_visibility(
        self, topic: str, held: list[Held], seconds: Sequence[int], *, done: Callable[[Receipt], None]
    ) -> None:
        if not held:
            return
        await run_in_batches(
            self._queues,
            names_of(self._prefix, topic).main,
            "ChangeMessageVisibilityBatch",
            [
                {"ReceiptHandle": receipt.handle, "VisibilityTimeout": each}
                for (_, receipt), each in zip(held, seconds, strict=True)
            ],
            done=lambda index: done(held[index][1]),
            passed=_stale,
            required=False,
        )

    async def _replace(self, topic: str, name: str, held: list[Held], entries: Sequence[Entry]) -> None:
        """Send the replacements of messages, then delete the messages. Do not send a replacement twice."""

        def moved(index: int) -> None:
            left[index][0][1].moved = True

        left = [(each, entry) for each, entry in zip(held, entries, strict=True) if not each[1].moved]
        try:
            await run_in_batches(self._queues, name, "SendMessageBatch", [entry for _, entry in left], done=moved)
        finally:
            # A message whose lease has expired belongs to its next receiver, who settles it.
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
        except Exception as error:  # noqa: BLE001 - raised below, after the other topics
            errors.append(error)
    if errors:
        raise errors[0]


def _stale(failed: Entry) -> bool:
    """Whether SQS reports that the lease has expired or the message is deleted."""
    return failed.get("Code") in STALE or DELETED in str(failed.get("Message", ""))


def _set_settled(receipt: Receipt) -> None:
    receipt.settled = True


def _now() -> float:
    return asyncio.get_running_loop().time()
