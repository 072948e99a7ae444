"""Queue role: each topic is an SQS queue, with a second one for its dead letters."""

from collections.abc import Sequence
from typing import Final

from brrr_aws.client import AwsClient
from brrr_core.backend import (
    DeadLetter,
    Delivery,
    Queue,
    QueueStats,
    check_bodies,
    check_delay,
    check_limit,
    check_wait,
)
from brrr_sqs.bodies import MAX_BODY
from brrr_sqs.dead_letters import DeadLetters
from brrr_sqs.entry_batches import run_in_batches
from brrr_sqs.inspection import SqsInspector
from brrr_sqs.messages import message_entry
from brrr_sqs.polling import Pollers
from brrr_sqs.queues import Queues, names_of
from brrr_sqs.settling import Settling

__all__ = ["SqsQueue"]

COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)

CLOSE_TIMEOUT: Final = 2.0
"""Seconds that closing waits for running tasks. Deliveries that are not settled by then come back after their lease."""


class SqsQueue(Queue):
    """Queue that sends, receives and settles ten messages per request.

    Args:
        queues: Sends requests to SQS.
        polls: The client for polls, whose responses take long.
        prefix: Prefix of the queues' names.
        lease: Lease in seconds.
    """

    def __init__(self, queues: Queues, polls: AwsClient, *, prefix: str, lease: float) -> None:
        self.lease = lease
        self._queues = queues
        self._prefix = prefix
        self._settling = Settling(queues, prefix=prefix, lease=lease)
        self._pollers = Pollers(queues, polls, self._settling, prefix=prefix, lease=lease)
        self._dead_letters = DeadLetters(queues, polls, prefix=prefix)
        self.inspector = SqsInspector(queues, prefix=prefix, stats=self.stats)

    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        """Send messages. If SQS refuses some of them, the others stay sent."""
        name = names_of(self._prefix, topic).main
        check_delay(delay)
        check_bodies(topic, bodies, MAX_BODY)
        self._queues.client.check_open()
        await run_in_batches(
            self._queues, name, "SendMessageBatch", [message_entry(body, delay=delay) for body in bodies]
        )

    async def receive(self, topic: str, *, limit: int, wait: float) -> list[Delivery]:
        """Receive messages, roughly in the order in which they were put."""
        names_of(self._prefix, topic)
        check_limit(limit)
        check_wait(wait)
        self._queues.client.check_open()
        return await self._pollers.receive(topic, limit, wait)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Delete messages."""
        await self._settling.ack(deliveries)

    async def release(self, deliveries: Sequence[Delivery], *, delay: float = 0) -> None:
        """Make messages ready again."""
        check_delay(delay)
        await self._settling.release(deliveries, delay)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Restart leases. SQS lets a message be held for twelve hours in total."""
        await self._settling.extend(deliveries)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Move a message to the topic's dead letters."""
        await self._settling.bury(delivery, reason)

    async def stats(self, topic: str) -> QueueStats:
        """Return SQS' counts, up to a minute late. A message released with a delay counts as leased."""
        names = names_of(self._prefix, topic)
        self._queues.client.check_open()
        ready, leased, delayed = await self._counts(names.main)
        return QueueStats(ready, leased, delayed, sum(await self._counts(names.dead)))

    async def dead(self, topic: str, *, limit: int) -> list[DeadLetter]:
        """Return the oldest of the dead letters that SQS returns."""
        self._check(topic, limit)
        return await self._dead_letters.oldest(topic, limit)

    async def redrive(self, topic: str, *, limit: int) -> int:
        """Put dead letters back as new messages."""
        self._check(topic, limit)
        return await self._dead_letters.redrive(topic, limit)

    async def drop(self, topic: str, *, limit: int) -> int:
        """Delete dead letters."""
        self._check(topic, limit)
        return await self._dead_letters.drop(topic, limit)

    async def close(self) -> None:
        """End all waits with `BackendClosedError`, and give running settlements a moment to finish."""
        self._queues.gate.refuse()
        self._pollers.close()
        await self._queues.gate.close(CLOSE_TIMEOUT)

    def _check(self, topic: str, limit: int) -> None:
        names_of(self._prefix, topic)
        check_limit(limit)
        self._queues.client.check_open()

    async def _counts(self, name: str) -> list[int]:
        response = await self._queues.call(name, "GetQueueAttributes", {"AttributeNames": COUNTS}, required=False)
        found = (response or {}).get("Attributes", {})
        return [int(found.get(each, 0)) for each in COUNTS]
