"""The queue role: each topic is a queue of SQS, with a second one for its dead letters."""

from collections.abc import Sequence
from typing import Final

from brrr_aws.client import AwsClient
from brrr_core.backend import DeadLetter, Delivery, Queue, QueueStats
from brrr_core.backend.checks import check_bodies, check_delay, check_limit, check_wait
from brrr_sqs.batches import in_batches
from brrr_sqs.bodies import MAX_BODY
from brrr_sqs.graveyard import Graveyard
from brrr_sqs.messages import message
from brrr_sqs.names import names_of
from brrr_sqs.polling import Pollers
from brrr_sqs.queues import Queues
from brrr_sqs.settling import Settling

__all__ = ["SqsQueue"]

COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


class SqsQueue(Queue):
    """Sends, receives and settles ten messages a request.

    Args:
        queues: Asks SQS.
        polls: The client for polls, whose answers take long.
        prefix: What the queues' names begin with.
        lease: Seconds that a delivery stays with its receiver.
    """

    def __init__(self, queues: Queues, polls: AwsClient, *, prefix: str, lease: float) -> None:
        self.lease = lease
        self._queues = queues
        self._prefix = prefix
        self._settling = Settling(queues, prefix=prefix, lease=lease)
        self._pollers = Pollers(queues, polls, self._settling, prefix=prefix, lease=lease)
        self._graveyard = Graveyard(queues, polls, prefix=prefix)

    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        """Send messages. What SQS took is not taken back where it refuses others of the batch."""
        name = names_of(self._prefix, topic).main
        check_delay(delay)
        check_bodies(topic, bodies, MAX_BODY)
        self._queues.client.check_open()
        await in_batches(self._queues, name, "SendMessageBatch", [message(body, delay=delay) for body in bodies])

    async def receive(self, topic: str, *, limit: int, wait: float) -> list[Delivery]:
        """Take messages, in about the order in which they were put."""
        names_of(self._prefix, topic)
        check_limit(limit)
        check_wait(wait)
        self._queues.client.check_open()
        return await self._pollers.receive(topic, limit, wait)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Delete messages."""
        await self._settling.ack(deliveries)

    async def release(self, deliveries: Sequence[Delivery], *, delay: float = 0) -> None:
        """Let messages be seen again."""
        check_delay(delay)
        await self._settling.release(deliveries, delay)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Start leases anew, up to the twelve hours that SQS lets a message be held."""
        await self._settling.extend(deliveries)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Move a message to the topic's other queue."""
        await self._settling.bury(delivery, reason)

    async def stats(self, topic: str) -> QueueStats:
        """Counts as SQS has them, up to a minute late. What was released with a delay counts as leased."""
        names = names_of(self._prefix, topic)
        self._queues.client.check_open()
        ready, leased, delayed = await self._counts(names.main)
        return QueueStats(ready, leased, delayed, sum(await self._counts(names.dead)))

    async def dead(self, topic: str, *, limit: int) -> list[DeadLetter]:
        """The oldest dead letters, of those that SQS gives."""
        self._check(topic, limit)
        return await self._graveyard.dead(topic, limit)

    async def redrive(self, topic: str, *, limit: int) -> int:
        """Put dead letters back as new messages."""
        self._check(topic, limit)
        return await self._graveyard.redrive(topic, limit)

    async def drop(self, topic: str, *, limit: int) -> int:
        """Delete dead letters."""
        self._check(topic, limit)
        return await self._graveyard.drop(topic, limit)

    async def close(self) -> None:
        """End every wait with `BackendClosedError`, and let what is being settled be settled for a moment."""
        self._pollers.close()
        await self._queues.owned.close()

    def _check(self, topic: str, limit: int) -> None:
        names_of(self._prefix, topic)
        check_limit(limit)
        self._queues.client.check_open()

    async def _counts(self, name: str) -> list[int]:
        answer = await self._queues.ask(name, "GetQueueAttributes", {"AttributeNames": COUNTS}, needed=False)
        found = (answer or {}).get("Attributes", {})
        return [int(found.get(each, 0)) for each in COUNTS]
