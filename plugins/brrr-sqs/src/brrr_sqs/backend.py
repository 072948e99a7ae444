"""The backend class: opens the clients, and puts the queue on the table."""

from contextlib import AsyncExitStack
from typing import Final

from brrr_aws.client import AwsClient
from brrr_aws.location import parse_location
from brrr_core.backend import Backend, BackendUrl, Roles, shown
from brrr_core.errors import UrlError
from brrr_sqs.names import LONGEST_PREFIX, PREFIX, names_of
from brrr_sqs.options import SqsOptions
from brrr_sqs.polling import LONGEST_POLL
from brrr_sqs.queue import SqsQueue
from brrr_sqs.queues import Queues

__all__ = ["SqsBackend"]

DEFAULT: Final = "brrr"

POLLS: Final = 1_000
"""Connections for polls: a topic that is waited on holds one for as long."""


class SqsBackend(Backend):
    """A queue on Amazon SQS.

    Args:
        url: `sqs://PREFIX`, or `sqs://HOST:PORT/PREFIX` for an emulator; the prefix is `brrr` where none is given.
        options: Region, endpoint, profile, the lease, whether queues are made, timeouts.

    Raises:
        UrlError: The prefix is none that queues can have.
        OptionError: The region or the endpoint cannot be one.
    """

    def __init__(self, url: BackendUrl, options: SqsOptions | None = None) -> None:
        self._options = SqsOptions() if options is None else options
        name, self._place = parse_location(url, self._options)
        self._prefix = name or DEFAULT
        if not PREFIX.fullmatch(self._prefix) or len(self._prefix) > LONGEST_PREFIX:
            raise UrlError(
                f"{shown(self._prefix)!r} is no prefix of queues",
                remedy=f"A prefix has up to {LONGEST_PREFIX} letters, digits, '-' and '_', no '_' at an end, and no "
                "two in a row.",
            )
        self.retry_for = self._options.retry_for
        self._clients: list[AwsClient] = []
        self._queue: SqsQueue | None = None

    async def start(self) -> Roles:
        """Make the clients, and see that SQS answers and knows the credentials."""
        client, polls = self._make_client(), self._make_client(wait=LONGEST_POLL, pool=POLLS)
        self._clients = [client, polls]
        for each in self._clients:
            await each.open()
        queues = Queues(client, create=self._options.create)
        await queues.check(f"{self._prefix}__")
        self._queue = SqsQueue(queues, polls, prefix=self._prefix, lease=self._options.lease)
        return Roles(queue=self._queue)

    async def stop(self) -> None:
        """End what waits, let what is being settled be settled for a moment, and close every connection."""
        queue, self._queue = self._queue, None
        clients, self._clients = self._clients, []
        async with AsyncExitStack() as closing:
            for client in clients:
                closing.push_async_callback(client.close)
            if queue is not None:
                await queue.close()

    async def setup(self) -> list[str]:
        """Make the queues of the option `topics`, two for each. Those of other topics are made when they are used."""
        client = self._make_client()
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
            told = [await queues.made(name) for name in names]
        finally:
            await client.close()
        if self._options.create:
            return [*told, f"queues at {client.address} are made when they are used"]
        return told or ["no queue was made: name topics, as in topics=jobs,mail"]

    def _make_client(self, *, wait: float = 0, pool: int = 64) -> AwsClient:
        options = self._options
        return AwsClient(
            "sqs",
            self._place,
            subject=f"the queues {self._prefix}__…",
            missing="See the account and the region that the URL and the environment name.",
            connect_timeout=options.connect_timeout,
            timeout=options.timeout + wait,
            retry_for=options.retry_for,
            pool=pool,
        )
