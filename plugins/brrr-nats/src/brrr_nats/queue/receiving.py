"""Receiving of messages, through lost connections, changing leaders and deleted consumers."""

import asyncio
from collections.abc import Callable
from typing import Final

from brrr_core.backend import Delivery
from brrr_nats.client.connector import FIRST_PAUSE_SECONDS
from brrr_nats.client.errors import FAILURES, ApiError, NoReplyError, NoRespondersError, closed_error
from brrr_nats.client.requests import RequestClient
from brrr_nats.options import NatsOptions
from brrr_nats.queue.consumers import Consumers
from brrr_nats.queue.layout import Layout, TopicNames
from brrr_nats.queue.leases import StallDetector
from brrr_nats.queue.orphans import Orphans
from brrr_nats.queue.pulls import Pull
from brrr_nats.queue.topic_pulls import TopicPulls

__all__ = ["MessageReceiver"]

MAX_MESSAGES_PER_RECEIVE: Final = 500
"""Most messages of one receive."""

MAX_PULL_SECONDS: Final = 8.0
"""Longest duration of a pull in seconds. A pull that died with its leader is noticed after it."""

MIN_PULL_SECONDS: Final = 0.005
"""Shortest duration of a pull in seconds. A consumer knows of a message a little later than its stream."""

BUSY_SERVER_SECONDS: Final = 0.1
"""Seconds that a busy server may need to reach a request. A pull that expires sooner may miss ready messages."""

IMMEDIATE_SECONDS: Final = 0.005
"""A pull that ends within these seconds was ended at once and did not expire."""

KEPT_TOPICS: Final = 256
"""Topics whose subscriptions are kept without receivers. The limit grows to twice the number of topics in use."""

NO_MESSAGES_STATUSES: Final = (404, 408)
NO_RESPONDERS_STATUS: Final = 503


class MessageReceiver:
    """The receiving side of one backend, for all topics.

    Args:
        client: The client.
        options: The lease and `retry_for`.
        layout: Names of subjects and consumers.
        release_unseen: Releases a message that no receiver takes.
    """

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
                received, failure = await self._receive_once(names, min(limit, MAX_MESSAGES_PER_RECEIVE), deadline)
            except FAILURES as error:
                received, failure = [], error
            now = self._loop.time()
            if received:
                return received
            if failure is None:
                await self._orphans.check(names)
                if now >= deadline:
                    return []
                give_up = None
                if now - started > IMMEDIATE_SECONDS:
                    pause = FIRST_PAUSE_SECONDS
                else:  # other pulls wait for the messages, or the consumer is paused
                    pause = await self._client.pause(min(pause, deadline - now))
                continue
            self._consumers.forget(names)
            self._orphans.forget(names)
            give_up = now + self._options.retry_for if give_up is None else give_up
            if now + pause > give_up:
                raise self._client.to_brrr_error(failure) from failure
            pause = await self._client.pause(pause)

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

    async def _receive_once(
        self, names: TopicNames, limit: int, deadline: float
    ) -> tuple[list[Delivery], Exception | None]:
        """Send one pull. Return its messages, or the failure, or neither if no message is ready."""
        self._check_open()
        await self._consumers.ensure(names)
        connection = await self._client.connector.connection(self._loop.time() + self._options.retry_for)
        self._check_open()
        pulls = self._pulls_of(names)
        received = pulls.take_buffered(limit)
        if received:
            return received, None
        now = self._loop.time()
        if deadline < now + BUSY_SERVER_SECONDS:
            pull = pulls.request_now(connection, limit)
            received = await self._wait(pulls, pull, pull.expires)
            failure = None if received else _failure_of(pull, names)
            if received or failure is not None:
                return received, failure
            now = self._loop.time()
        until = min(max(deadline, now + MIN_PULL_SECONDS), now + MAX_PULL_SECONDS)
        pull = pulls.request(connection, limit, until)
        received = await self._wait(pulls, pull, until)
        return received, None if received else _failure_of(pull, names)

    async def _wait(self, pulls: TopicPulls, pull: Pull, until: float) -> list[Delivery]:
        """Wait for the messages of a pull; release them if the backend was closed meanwhile."""
        received = await pulls.wait(pull, until)
        if self._closed:
            for delivery in received:
                self._release_unseen(delivery)
            self._check_open()
        return received

    def _pulls_of(self, names: TopicNames) -> TopicPulls:
        pulls = self._topics.get(names.topic)
        if pulls is None:
            subject = self._client.api_subject(f"CONSUMER.MSG.NEXT.{self._layout.stream}.{names.consumer}")
            if len(self._topics) >= self._max_topics:
                self._drop_idle_topics()
            pulls = TopicPulls(names.topic, subject, self._options.lease, self._stall_detector, self._release_unseen)
            self._topics[names.topic] = pulls
        return pulls

    def _drop_idle_topics(self) -> None:
        for topic, pulls in list(self._topics.items()):
            if pulls.idle:
                pulls.close_subscriptions()
                del self._topics[topic]
        self._max_topics = max(KEPT_TOPICS, 2 * len(self._topics))

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error()


def _failure_of(pull: Pull, names: TopicNames) -> Exception | None:
    if pull.failure is not None:
        return pull.failure if isinstance(pull.failure, FAILURES) else NoReplyError(pull.failure, sent=True)
    if pull.status in NO_MESSAGES_STATUSES or not pull.status:
        return None
    if pull.status == NO_RESPONDERS_STATUS:
        return NoRespondersError(f"the consumer of the topic {names.topic!r}")
    return ApiError(0, pull.status, pull.description)
