"""The topics for operators. SQS lists queues and empties them, and shows no message without delivering it."""

from collections.abc import Awaitable, Callable
from typing import Final

from brrr_aws.errors import AwsRefusal
from brrr_core.backend import Activity, Inspector, Peeked, QueueStats, check_limit
from brrr_core.errors import BackendError, CapabilityError
from brrr_sqs.queues import DEAD, TOPICS, Queues, names_of

__all__ = ["SqsInspector"]

LISTED: Final = 1_000
"""Queues in one response, the most that SQS allows."""

PURGING: Final = ("PurgeQueueInProgress", "AWS.SimpleQueueService.PurgeQueueInProgress")


class SqsInspector(Inspector):
    """Lists and purges queues.

    Args:
        queues: Sends requests to SQS.
        prefix: Prefix of the queues' names.
        stats: Counts the messages of a topic.
    """

    def __init__(self, queues: Queues, *, prefix: str, stats: Callable[[str], Awaitable[QueueStats]]) -> None:
        self._stats = stats
        self._queues = queues
        self._prefix = prefix

    async def topics(self) -> list[str]:
        """Return the topics that have a queue. A cut name is missing, and a new queue is listed within a minute."""
        begin, found = f"{self._prefix}__", set[str | None]()
        request: dict[str, object] = {"QueueNamePrefix": begin, "MaxResults": LISTED}
        while True:
            response = await self._queues.client.call("ListQueues", request, idempotent=True)
            urls: list[str] = response.get("QueueUrls") or []
            names = (url.rpartition("/")[2].removeprefix(begin).removesuffix(DEAD) for url in urls)
            found.update(map(TOPICS.unescape, names))
            if not response.get("NextToken"):
                return sorted(topic for topic in found if topic)
            request["NextToken"] = response["NextToken"]

    async def peek(self, topic: str, *, limit: int) -> list[Peeked]:
        """Refuse: SQS shows no message without delivering it."""
        names_of(self._prefix, topic)
        check_limit(limit)
        self._queues.client.check_open()
        raise CapabilityError(
            "SQS shows no message without delivering it",
            remedy="Receive one with a worker, or look at the dead letters.",
        )

    async def purge(self, topic: str) -> int:
        """Empty the queue of the topic, and return SQS' count of before. SQS needs up to a minute."""
        name = names_of(self._prefix, topic).main
        stats = await self._stats(topic)
        try:
            await self._queues.call(name, "PurgeQueue", {}, required=False, expect=PURGING)
        except AwsRefusal as refusal:
            raise BackendError(
                f"the queue {name} is being purged already", remedy="Wait a minute: SQS purges a queue once a minute."
            ) from refusal
        return stats.ready + stats.delayed

    async def activity(self, topic: str) -> Activity:
        """Return whether a message is leased. SQS knows no receivers, and tells times only as a metric."""
        return Activity(receiving=True if (await self._stats(topic)).leased else None)
