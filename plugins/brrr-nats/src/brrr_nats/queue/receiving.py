"""Receivers: each asks for messages and waits, whatever becomes of connections, leaders and consumers meanwhile."""

import asyncio
from collections.abc import Callable
from typing import Final

from brrr_core.backend import Delivery
from brrr_nats.client.connector import FIRST_PAUSE
from brrr_nats.client.errors import FAILURES, ApiError, Lost, NoResponders, closed
from brrr_nats.client.requests import Link
from brrr_nats.options import NatsOptions
from brrr_nats.queue.consumers import Consumers
from brrr_nats.queue.layout import Layout, TopicNames
from brrr_nats.queue.leases import Pulse
from brrr_nats.queue.orphans import Orphans
from brrr_nats.queue.pulls import Pull
from brrr_nats.queue.topic_pulls import Channel

__all__ = ["Receivers"]

MOST_TAKEN: Final = 500
"""Messages that one receive takes at most."""

LONGEST_PULL: Final = 8.0
"""Seconds for which a server is asked at a time. A pull that its leader has taken to the grave is noticed after it."""

SHORTEST_PULL: Final = 0.005
"""Seconds for which a server is asked at least: a consumer knows of a message a little later than its stream."""

SHORT: Final = 0.1
"""Seconds that a busy server may need to come to a request. Pulls that expire sooner may find nothing by that alone."""

AT_ONCE: Final = 0.005
"""Seconds within which a pull is ended at once, and not because it expired."""

MOST_CHANNELS: Final = 256
"""Topics whose lanes are kept while nobody receives, at least; at most as many again as are received from."""

NONE_THERE: Final = (404, 408)
NOBODY: Final = 503


class Receivers:
    """All receivers of one backend.

    Args:
        link: Asks the servers.
        options: The lease, and how long to try.
        layout: Names subjects and consumers.
        give_back: Gives back what nobody here takes.
    """

    def __init__(self, link: Link, options: NatsOptions, layout: Layout, give_back: Callable[[Delivery], None]) -> None:
        self._link = link
        self._options = options
        self._layout = layout
        self._give_back = give_back
        self._loop = asyncio.get_running_loop()
        self._consumers = Consumers(link, layout)
        self._orphans = Orphans(link, options, layout)
        self._pulse = Pulse(self._loop, options.lease)
        self._channels: dict[str, Channel] = {}
        self._most_channels = MOST_CHANNELS
        self._closed = False

    async def receive(self, names: TopicNames, limit: int, wait: float) -> list[Delivery]:
        """Take messages; wait for one.

        Raises:
            BackendUnavailableError: The servers are away for `retry_for`.
            BackendError: They refuse.
            BackendClosedError: The backend was closed.
        """
        deadline, pause = self._loop.time() + wait, FIRST_PAUSE
        give_up = None
        while True:
            begun = self._loop.time()
            try:
                came, failure = await self._try(names, min(limit, MOST_TAKEN), deadline)
            except FAILURES as error:
                came, failure = [], error
            now = self._loop.time()
            if came:
                return came
            if failure is None:
                await self._orphans.look(names)
                if now >= deadline:
                    return []
                give_up = None
                if now - begun > AT_ONCE:
                    pause = FIRST_PAUSE
                else:  # others wait for more than is there, and a paused consumer gives it to nobody
                    pause = await self._link.pause(min(pause, deadline - now))
                continue
            self._consumers.forget(names)
            self._orphans.forget(names)
            give_up = now + self._options.retry_for if give_up is None else give_up
            if now + pause > give_up:
                raise self._link.translated(failure) from failure
            pause = await self._link.pause(pause)

    def close(self) -> None:
        """End every wait with `BackendClosedError`. What still comes goes back."""
        self._closed = True
        for channel in self._channels.values():
            channel.close(closed())
        self._pulse.end()

    @property
    def expecting(self) -> bool:
        """Whether messages may still come."""
        return any(not channel.idle for channel in self._channels.values())

    async def _try(self, names: TopicNames, limit: int, deadline: float) -> tuple[list[Delivery], Exception | None]:
        """Ask once. What came, or why nothing did; None where there is nothing."""
        self._check_open()
        await self._consumers.ensure(names)
        connection = await self._link.line.connection(self._loop.time() + self._options.retry_for)
        self._check_open()
        channel = self._channel(names)
        came = channel.from_shelf(limit)
        if came:
            return came, None
        now = self._loop.time()
        if deadline < now + SHORT:
            pull = channel.look(connection, limit)
            came = await self._wait(channel, pull, pull.expires)
            failure = None if came else _failure_of(pull, names)
            if came or failure is not None:
                return came, failure
            now = self._loop.time()
        until = min(max(deadline, now + SHORTEST_PULL), now + LONGEST_PULL)
        pull = channel.ask(connection, limit, until)
        came = await self._wait(channel, pull, until)
        return came, None if came else _failure_of(pull, names)

    async def _wait(self, channel: Channel, pull: Pull, until: float) -> list[Delivery]:
        """What a pull brings; given back if the backend was closed meanwhile."""
        came = await channel.wait(pull, until)
        if self._closed:
            for delivery in came:
                self._give_back(delivery)
            self._check_open()
        return came

    def _channel(self, names: TopicNames) -> Channel:
        channel = self._channels.get(names.topic)
        if channel is None:
            subject = self._link.api(f"CONSUMER.MSG.NEXT.{self._layout.stream}.{names.consumer}")
            if len(self._channels) >= self._most_channels:
                self._forget_idle()
            channel = Channel(names.topic, subject, self._options.lease, self._pulse, self._give_back)
            self._channels[names.topic] = channel
        return channel

    def _forget_idle(self) -> None:
        for topic, channel in list(self._channels.items()):
            if channel.idle:
                channel.forget()
                del self._channels[topic]
        self._most_channels = max(MOST_CHANNELS, 2 * len(self._channels))

    def _check_open(self) -> None:
        if self._closed:
            raise closed()


def _failure_of(pull: Pull, names: TopicNames) -> Exception | None:
    if pull.failure is not None:
        return pull.failure if isinstance(pull.failure, FAILURES) else Lost(pull.failure, sent=True)
    if pull.status in NONE_THERE or not pull.status:
        return None
    if pull.status == NOBODY:
        return NoResponders(f"the consumer of the topic {names.topic!r}")
    return ApiError(0, pull.status, pull.description)
