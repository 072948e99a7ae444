"""SQS queues: naming them, finding their URLs, creating them, and sending requests to them.

A topic has two queues. Different topics, or prefixes, never share a queue.

SQS allows 80 letters, digits, hyphens and underscores. A name is `PREFIX__TOPIC`, and `PREFIX__TOPIC__dead` for the
dead letters. Other characters of a topic are escaped as `_xHH` per byte; an underscore stays as it is unless it looks
like the start of an escape. Prefixes and escaped topics never contain `__`, which separates the parts.
"""

import re
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from brrr_aws.client import AwsClient, Backoff, Response
from brrr_aws.error_codes import NOT_FOUND
from brrr_aws.errors import AwsRefusal
from brrr_core.backend import Gate, NameEscape, check_topic
from brrr_core.errors import BackendError, BackendUnavailableError
from brrr_sqs.bodies import MAX_MESSAGE_BYTES

__all__ = ["DEAD", "MAX_PREFIX_CHARS", "PREFIX", "TOPICS", "Names", "Queues", "names_of"]

EXISTS: Final = ("QueueAlreadyExists", "QueueNameExists")
DELETED: Final = ("AWS.SimpleQueueService.QueueDeletedRecently", "QueueDeletedRecently")

RETENTION: Final = 14 * 24 * 3600
"""Seconds that SQS keeps a message: its maximum. Its default is four days."""

MAX_NAME_CHARS: Final = 80
"""Longest name that SQS allows."""

MAX_PREFIX_CHARS: Final = 30
"""Longest prefix. It leaves room for the topic."""

PREFIX: Final = re.compile(r"(?!.*__)[A-Za-z0-9-](?:[A-Za-z0-9_-]*[A-Za-z0-9-])?")
"""Valid prefixes: the characters of a queue name, without `__`, and without `_` at either end."""

DEAD: Final = "__dead"
TOPICS: Final = NameEscape("_x", cut="__", unsafe="_(?![A-Za-wyz0-9-])|[^A-Za-z0-9_-]")


class Names(NamedTuple):
    """The two queues of a topic."""

    main: str
    dead: str


def names_of(prefix: str, topic: str) -> Names:
    """Return the names of a topic's queues. A long topic is cut, and gets a hash of the whole topic.

    Raises:
        ArgumentError: The topic is empty, too long or not valid UTF-8.
    """
    check_topic(topic)
    longest = MAX_NAME_CHARS - len(prefix) - len("__") - len(DEAD)
    main = f"{prefix}__{TOPICS.name(topic, longest=longest)}"
    return Names(main, main + DEAD)


class Queues:
    """SQS queues by name. Creates missing queues if that is allowed.

    Args:
        client: The SQS client.
        create: Whether to create missing queues.
    """

    def __init__(self, client: AwsClient, *, create: bool) -> None:
        self.client = client
        self.gate = Gate()
        self._create = create
        self._urls: dict[str, str] = {}

    async def check(self, name: str) -> None:
        """Check that SQS responds and accepts the credentials.

        Raises:
            BackendError: SQS does not respond, or refuses.
        """
        try:
            await self.client.call(
                "GetQueueUrl", {"QueueName": name}, idempotent=True, retry_outage=False, expect=NOT_FOUND
            )
        except AwsRefusal:
            return  # the expected response, as no topic has that queue

    async def create(self, name: str) -> str:
        """Create a queue if it is missing, and return a report."""
        if await self._find(name) is not None:
            return f"the queue {name} at {self.client.address} exists"
        await self._create_queue(name)
        return f"created the queue {name} at {self.client.address}"

    async def call(
        self,
        name: str,
        operation: str,
        parameters: Mapping[str, object],
        *,
        required: bool = True,
        client: AwsClient | None = None,
        backoff: Backoff | None = None,
        expect: Collection[str] = (),
    ) -> Response | None:
        """Send a request to a queue. Repeat it if the response is lost.

        Args:
            name: Name of the queue.
            operation: Name of the operation, such as `SendMessageBatch`.
            parameters: Its parameters, without the queue's URL.
            required: Whether to create a missing queue. Otherwise the result is None if it is missing.
            client: The client to use instead of the usual one.
            backoff: Pauses between attempts, for a caller that shares them.
            expect: Error codes that are raised as `AwsRefusal`.

        Raises:
            BackendError: A required queue is missing and may not be created, or SQS refuses or does not respond.
        """
        sender = client or self.client
        url = self._urls.get(name) or await self._url(name, required=required)
        while url is not None:
            try:
                return await sender.call(
                    operation,
                    {"QueueUrl": url, **parameters},
                    idempotent=True,
                    expect=(*NOT_FOUND, *expect),
                    backoff=backoff,
                )
            except AwsRefusal as refusal:
                if refusal.code in expect:
                    raise
                # The queue was deleted, or it was created less than a second ago and not all servers know it yet.
                if self._urls.get(name) == url:
                    del self._urls[name]
                if not required:
                    return None
                backoff = backoff or self.client.backoff()
                if not await backoff.pause():
                    raise BackendUnavailableError(
                        f"the queue {name} at {self.client.address} exists, but {operation} does not find it",
                        remedy="Check whether another program deletes it. A new queue needs about a second.",
                    ) from refusal
                url = await self._url(name, required=True, gone=True)
        return None

    async def _url(self, name: str, *, required: bool, gone: bool = False) -> str | None:
        """Return the URL of a queue. Concurrent callers share one request."""
        create = required and self._create
        url = await self.gate.shared(
            (name, create, gone),
            lambda: self._find_or_create(name, create=create, gone=gone),
            name=f"brrr finds {name}",
        )
        if url is None and required:
            raise BackendError(
                f"the queue {name} does not exist at {self.client.address}",
                remedy="Create it with `brrr setup` and the option topics, or set create=true.",
            )
        return url

    async def _find_or_create(self, name: str, *, create: bool, gone: bool) -> str | None:
        """Return the URL of a queue. Do not look up a queue that is gone: SQS may still return its old URL."""
        url = None if gone and create else await self._find(name)
        if url is None and create:
            url = await self._create_queue(name)
        if url is not None:
            self._urls[name] = url
        return url

    async def _find(self, name: str) -> str | None:
        try:
            response = await self.client.call("GetQueueUrl", {"QueueName": name}, idempotent=True, expect=NOT_FOUND)
        except AwsRefusal:
            return None
        return self._url_in(response, name)

    async def _create_queue(self, name: str) -> str:
        attributes = {"MessageRetentionPeriod": str(RETENTION), "MaximumMessageSize": str(MAX_MESSAGE_BYTES)}
        try:
            response = await self.client.call(
                "CreateQueue",
                {"QueueName": name, "Attributes": attributes},
                idempotent=True,
                expect=(*EXISTS, *DELETED),
            )
        except AwsRefusal as refusal:
            if refusal.code in DELETED:
                raise BackendUnavailableError(
                    f"the queue {name} at {self.client.address} was just deleted",
                    remedy="Wait a minute; SQS refuses to create a queue of that name until then.",
                ) from refusal
            # Another program has created it meanwhile, with other attributes.
            response = await self.client.call("GetQueueUrl", {"QueueName": name}, idempotent=True)
        return self._url_in(response, name)

    def _url_in(self, response: Response, name: str) -> str:
        url: object = response.get("QueueUrl")
        if not isinstance(url, str):
            raise BackendError(
                f"the response of {self.client.address} does not contain the URL of the queue {name}",
                remedy="Check the endpoint of the URL: it does not lead to SQS or to a complete emulator.",
            )
        return url
