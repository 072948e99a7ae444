"""Backend class: opens the clients and the queue."""

from math import ceil
from typing import Final

from brrr_aws.client import AwsClient
from brrr_aws.location import parse_location
from brrr_core.backend import Backend, BackendUrl, Roles, shown
from brrr_core.errors import UrlError
from brrr_sqs.options import SqsOptions
from brrr_sqs.polling import MAX_POLL_SECONDS
from brrr_sqs.queue import SqsQueue
from brrr_sqs.queues import MAX_PREFIX_CHARS, PREFIX, Queues, names_of

__all__ = ["SqsBackend"]

DEFAULT_PREFIX: Final = "brrr"

MAX_POLL_CONNECTIONS: Final = 1_000
"""Most connections for polls. Each topic with waiting receivers holds one."""


class SqsBackend(Backend):
    """A queue on Amazon SQS.

    Args:
        url: `sqs://PREFIX`, or `sqs://HOST:PORT/PREFIX` for an emulator. The default prefix is `brrr`.
        options: Region, endpoint, profile, lease, creation of queues, timeouts.

    Raises:
        UrlError: The prefix is malformed.
        OptionError: The region, the profile or the endpoint is malformed.
    """

    def __init__(self, url: BackendUrl, options: SqsOptions | None = None) -> None:
        self._options = SqsOptions() if options is None else options
        name, self._location = parse_location(url, self._options)
        self._prefix = name or DEFAULT_PREFIX
        if not PREFIX.fullmatch(self._prefix) or len(self._prefix) > MAX_PREFIX_CHARS:
            raise UrlError(
                f"{shown(self._prefix)!r} is not a queue prefix",
                remedy=f"A prefix has up to {MAX_PREFIX_CHARS} letters, digits, '-' and '_', without '__', and without "
                "'_' at either end.",
            )
        self.retry_for = self._options.retry_for

    async def start(self) -> Roles:
        """Open the clients, and check that SQS responds and accepts the credentials."""
        client, polls = self._create_client(), self._create_client(wait=MAX_POLL_SECONDS, pool=MAX_POLL_CONNECTIONS)
        for each in (polls, client):
            self.opened.push_async_callback(each.close)
            await each.open()
        queues = Queues(client, create=self._options.create)
        await queues.check(f"{self._prefix}__")
        queue = SqsQueue(queues, polls, prefix=self._prefix, lease=float(ceil(self._options.lease)))
        self.opened.push_async_callback(queue.close)
        return Roles(queue=queue)

    async def setup(self) -> list[str]:
        """Create the two queues of each topic in the option `topics`. Other queues are created on first use."""
        client = self._create_client()
        try:
            await client.open()
            queues = Queues(client, create=True)
            await queues.check(f"{self._prefix}__")
            names = [
                name
                for topic in self._options.topics.split(",")
                if topic.strip()
                for name in names_of(self._prefix, topic.strip())
            ]
            report = [await queues.create(name) for name in names]
        finally:
            await client.close()
        if self._options.create:
            return [*report, f"further queues at {client.address} are created on first use"]
        return report or ["created no queues: name topics, such as topics=jobs,mail"]

    def _create_client(self, *, wait: float = 0, pool: int = 64) -> AwsClient:
        options = self._options
        return AwsClient(
            "sqs",
            self._location,
            subject=f"the queues {self._prefix}__…",
            missing="Check the account and the region in the URL and the environment.",
            connect_timeout=options.connect_timeout,
            timeout=options.timeout + wait,
            retry_for=options.retry_for,
            pool=pool,
        )
