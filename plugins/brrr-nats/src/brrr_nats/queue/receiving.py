"""Receiving of messages, through lost connections, changing leaders and deleted consumers."""

import asyncio
from collections.abc import Callable
from typing import Final

from brrr_core.backend import Delivery, closed_error
from brrr_nats.client.connector import FIRST_PAUSE_SECONDS
from brrr_nats.client.errors import FAILURES, ApiError, NoReplyError, NoRespondersError
from brrr_nats.client.requests import RequestClient
from brrr_nats.options import NatsOptions
from brrr_nats.queue.clocks import StallDetector
from brrr_nats.queue.consumers import Consumers
from brrr_nats.queue.layout import Layout, TopicNames
from brrr_nats.queue.orphans import Orphans
from brrr_nats.queue.pulls import Pull, TopicPulls

__all__ = ["MessageReceiver"]

MAX_MESSAGES_PER_RECEIVE: Final = 500
MAX_PULL_SECONDS: Final = 8.0
"""Longest duration of a pull in seconds. The loss of a pull with its leader is noticed after this time."""

MIN_PULL_SECONDS: Final = 0.005
"""Shortest duration of a pull in seconds. A consumer knows of a message a little later than its stream."""

BUSY_SERVER_SECONDS: Final = 0.1
"""Seconds that a busy server may need to reach a request. A pull that expires sooner may miss ready messages."""

IMMEDIATE_SECONDS: Final = 0.005
"""A pull that ends within these seconds was ended immediately and did not expire."""

KEPT_TOPICS: Final = 256
"""Topics that are kept without receivers. The limit grows to twice the number of topics in use."""


class MessageReceiver:
    """The receiving side of one backend, for all topics. `release_unseen` releases a message that no receiver takes."""

    def __init__(
        self, client: RequestClient, options: NatsOptions, layout: Layout, release_unseen: Callable[[Delivery], None]
    ) -> None:
        self._client = client
        self._options = options
        self._layout = layout
        self._release_unseen = release_unseen
        self._loop = asyncio.get_running_loop()
        self._consumers = Consumers(client, layout)
        self._orphans = Orphans(client, options, layout)
        self._stall_detector = StallDetector(self._loop, options.lease)
        self._topics: dict[str, TopicPulls] = {}
        self._max_topics = KEPT_TOPICS
        self._closed = False

    async def receive(self, names: TopicNames, limit: int, wait: float) -> list[Delivery]:
        """Receive messages; wait for the first.

        Raises:
            BackendUnavailableError: The servers are unavailable for `retry_for`.
            BackendError: The servers refuse the operation.
            BackendClosedError: The backend was closed.
        """
        deadline, pause = self._loop.time() + wait, FIRST_PAUSE_SECONDS
        give_up = None
        while True:
            started = self._loop.time()
            try:
                received = await self._receive_once(names, min(limit, MAX_MESSAGES_PER_RECEIVE), deadline)
                if received:
                    return received
                await self._orphans.check(names)
            except FAILURES as failure:
                now = self._loop.time()
                self._consumers.forget(names)
                self._orphans.forget(names)
                give_up = now + self._options.retry_for if give_up is None else give_up
                if now + pause > give_up:
                    raise self._client.to_brrr_error(failure) from failure
                pause = await self._client.pause(pause)
                continue
            now, give_up = self._loop.time(), None
            if now >= deadline:
                return []
            if now - started > IMMEDIATE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            else:  # other pulls wait for the messages, or the consumer is paused
                pause = await self._client.pause(min(pause, deadline - now))

    def close(self) -> None:
        """End all waits with `BackendClosedError`. Later messages are released."""
        self._closed = True
        for pulls in self._topics.values():
            pulls.close(closed_error())
        self._stall_detector.close()

    @property
    def expects_messages(self) -> bool:
        """Whether messages may still arrive."""
        return any(not pulls.idle for pulls in self._topics.values())

    async def _receive_once(self, names: TopicNames, limit: int, deadline: float) -> list[Delivery]:
        """Send one pull. Return its messages, none if no message is ready, or raise one of `FAILURES`."""
        self._check_open()
        await self._consumers.ensure(names)
        connection = await self._client.connector.connection(self._loop.time() + self._options.retry_for)
        self._check_open()
        pulls = self._pulls_of(names)
        received = pulls.take_buffered(limit)
        if received:
            return received
        now = self._loop.time()
        if deadline < now + BUSY_SERVER_SECONDS:
            pull = await pulls.request_now(connection, limit)
            received = await self._wait(names, pulls, pull, pull.expires)
            if received:
                return received
            now = self._loop.time()
        until = min(max(deadline, now + MIN_PULL_SECONDS), now + MAX_PULL_SECONDS)
        pull = await pulls.request(connection, limit, until)
        return await self._wait(names, pulls, pull, until)

    async def _wait(self, names: TopicNames, pulls: TopicPulls, pull: Pull, until: float) -> list[Delivery]:
        """Wait for the messages of a pull; release them if the backend was closed meanwhile."""
        received = await pulls.wait(pull, until)
        if self._closed:
            for delivery in received:
                self._release_unseen(delivery)
            self._check_open()
        if received or (pull.failure is None and pull.status in {0, 404, 408}):
            return received
        if pull.failure is not None:
            raise pull.failure if isinstance(pull.failure, FAILURES) else NoReplyError(pull.failure, sent=True)
        if pull.status == 503:
            raise NoRespondersError(f"the consumer of the topic {names.topic!r}")
        raise ApiError(0, pull.status, pull.description)

    def _pulls_of(self, names: TopicNames) -> TopicPulls:
        pulls = self._topics.get(names.topic)
        if pulls is None:
            if len(self._topics) >= self._max_topics:
                self._topics = {topic: each for topic, each in self._topics.items() if not each.idle}
                self._max_topics = max(KEPT_TOPICS, 2 * len(self._topics))
            subject = self._client.api_subject(f"CONSUMER.MSG.NEXT.{self._layout.stream}.{names.consumer}")
            pulls = TopicPulls(names.topic, subject, self._options.lease, self._stall_detector, self._release_unseen)
            self._topics[names.topic] = pulls
        return pulls

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error()
