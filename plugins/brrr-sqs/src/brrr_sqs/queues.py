"""The queues of SQS themselves: where they are, making them, and asking something of them."""

from asyncio import Task
from collections.abc import Mapping
from typing import Final

from brrr_aws.backoff import Backoff
from brrr_aws.client import AwsClient, Response
from brrr_aws.error_codes import NOT_FOUND
from brrr_aws.errors import AwsRefusal
from brrr_core.errors import BackendError, BackendUnavailableError
from brrr_sqs.bodies import MESSAGE_LIMIT
from brrr_sqs.owned import Owned, outcome

__all__ = ["Queues"]

EXISTS: Final = ("QueueAlreadyExists", "QueueNameExists")
DELETED: Final = ("AWS.SimpleQueueService.QueueDeletedRecently", "QueueDeletedRecently")

RETENTION: Final = 14 * 24 * 3600
"""Seconds that SQS keeps a message, at most; four days unless it is told."""


class Queues:
    """Finds queues by their names, makes them where that is wanted, and asks.

    Args:
        client: Asks SQS.
        create: Whether queues are made that are not there.
    """

    def __init__(self, client: AwsClient, *, create: bool) -> None:
        self.client = client
        self.owned = Owned()
        self._create = create
        self._urls: dict[str, str] = {}
        self._finding: dict[str, Task[str | None]] = {}

    async def check(self, name: str) -> None:
        """See that SQS answers and knows who asks.

        Raises:
            BackendError: It does not.
        """
        try:
            await self.client.call(
                "GetQueueUrl", {"QueueName": name}, idempotent=True, retry_outage=False, expect=NOT_FOUND
            )
        except AwsRefusal:
            return  # no topic has that queue; that it says so is what was wanted

    async def made(self, name: str) -> str:
        """Make a queue unless it is there, and say which of the two."""
        if await self._find(name) is not None:
            return f"the queue {name} at {self.client.address} is there"
        await self._make(name)
        return f"made the queue {name} at {self.client.address}"

    async def ask(
        self,
        name: str,
        operation: str,
        parameters: Mapping[str, object],
        *,
        needed: bool = True,
        client: AwsClient | None = None,
        waits: Backoff | None = None,
    ) -> Response | None:
        """Ask something of a queue, twice where the answer is lost.

        Args:
            name: The queue's name.
            operation: As in `SendMessageBatch`.
            parameters: All but the queue's URL.
            needed: Whether the queue is made if it is not there; otherwise the answer is None then.
            client: Who asks, where it is another.
            waits: The waits between attempts, where the caller wants to know of them.

        Raises:
            BackendError: It is needed and may not be made, or SQS refuses or does not answer.
        """
        asking = client or self.client
        url = self._urls.get(name) or await self._url(name, needed=needed)
        while url is not None:
            try:
                return await asking.call(
                    operation, {"QueueUrl": url, **parameters}, idempotent=True, expect=NOT_FOUND, backoff=waits
                )
            except AwsRefusal as refusal:
                # It was deleted, or was made less than a second ago, and not everywhere yet.
                if self._urls.get(name) == url:
                    del self._urls[name]
                if not needed:
                    return None
                waits = waits or self.client.backoff()
                if not await waits.pause():
                    raise BackendUnavailableError(
                        f"the queue {name} at {self.client.address} is there, and {operation} does not find it",
                        remedy="See whether somebody deletes it; a queue that was made needs a second or so.",
                    ) from refusal
                url = await self._url(name, needed=True, gone=True)
        return None

    async def _url(self, name: str, *, needed: bool, gone: bool = False) -> str | None:
        """Where a queue is. Those who ask at the same time ask once."""
        key = f"{name} {needed and self._create} {gone}"
        task = self._finding.get(key)
        if task is None:
            task = self.owned.start(self._found(name, make=needed and self._create, gone=gone), f"brrr finds {name}")
            self._finding[key] = task
            task.add_done_callback(lambda _: self._finding.pop(key))
        url = await outcome(task)
        if url is None and needed:
            raise BackendError(
                f"there is no queue {name} at {self.client.address}",
                remedy="Make it by `brrr setup` with the option topics, or let create=true make it when it is used.",
            )
        return url

    async def _found(self, name: str, *, make: bool, gone: bool) -> str | None:
        """Where a queue is, made if need be. Of one that is gone, what SQS says of its address may be old."""
        url = None if gone and make else await self._find(name)
        if url is None and make:
            url = await self._make(name)
        if url is not None:
            self._urls[name] = url
        return url

    async def _find(self, name: str) -> str | None:
        try:
            answer = await self.client.call("GetQueueUrl", {"QueueName": name}, idempotent=True, expect=NOT_FOUND)
        except AwsRefusal:
            return None
        return self._url_in(answer, name)

    async def _make(self, name: str) -> str:
        attributes = {"MessageRetentionPeriod": str(RETENTION), "MaximumMessageSize": str(MESSAGE_LIMIT)}
        try:
            answer = await self.client.call(
                "CreateQueue",
                {"QueueName": name, "Attributes": attributes},
                idempotent=True,
                expect=(*EXISTS, *DELETED),
            )
        except AwsRefusal as refusal:
            if refusal.code in DELETED:
                raise BackendUnavailableError(
                    f"the queue {name} at {self.client.address} was deleted a moment ago",
                    remedy="Wait a minute: SQS makes no queue of that name until then.",
                ) from refusal
            # Somebody has made it meanwhile, in another way.
            answer = await self.client.call("GetQueueUrl", {"QueueName": name}, idempotent=True)
        return self._url_in(answer, name)

    def _url_in(self, answer: Response, name: str) -> str:
        url: object = answer.get("QueueUrl")
        if not isinstance(url, str):
            raise BackendError(
                f"what answers at {self.client.address} does not say where the queue {name} is",
                remedy="Check the endpoint of the URL: that is no SQS, or no whole one.",
            )
        return url
