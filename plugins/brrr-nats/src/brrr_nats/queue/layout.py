"""Where the queue is kept: its two streams, their subjects, and the consumers.

| stream | subject | holds |
| --- | --- | --- |
| `STREAM` | `STREAM.ready.TOPIC` | what is ready or leased |
| `STREAM` | `STREAM.delayed.TOPIC.ID` | what was put with a delay, a subject each: the server moves it when it is due |
| `STREAM-dead` | `STREAM.dead.TOPIC` | dead letters |

TOPIC is the topic's token (`tokens`). It is also the name of the one consumer of the topic, which has its leases.
"""

from typing import Any, Final, NamedTuple

from brrr_core.backend.checks import check_topic
from brrr_nats.client.streams import DUPLICATES, SECOND, Wanted
from brrr_nats.options import NatsOptions
from brrr_nats.tokens import token_of

__all__ = ["Layout", "TopicNames"]

UNLIMITED: Final = -1
MOST_TOPICS: Final = 1_000_000
"""Consumers that the stream may have, where servers from 2.15 allow 1,000 by themselves."""

MOST_WAITING: Final = 100_000
"""Pulls that may wait at a consumer: one for each receiver of the fleet, where a server allows 512 by itself."""


class TopicNames(NamedTuple):
    """The names of one topic."""

    topic: str
    consumer: str
    ready: str
    delayed: str
    dead: str


class Layout:
    """Names streams, subjects and consumers."""

    def __init__(self, options: NatsOptions) -> None:
        self.stream = options.stream
        self.dead_stream = f"{options.stream}-dead"
        self._replicas = options.replicas
        self._lease = int(options.lease * SECOND)
        self._topics: dict[str, TopicNames] = {}

    def topic(self, topic: str) -> TopicNames:
        """The names of a topic. Raises `ArgumentError` where it is empty, or has no UTF-8 form."""
        names = self._topics.get(topic)
        if names is None:
            check_topic(topic)
            token = token_of(topic, "the topic")
            if len(self._topics) >= 1024:
                self._topics.clear()
            names = self._topics[topic] = TopicNames(
                topic, token, *(f"{self.stream}.{kind}.{token}" for kind in ("ready", "delayed", "dead"))
            )
        return names

    def streams(self) -> tuple[Wanted, Wanted]:
        """The streams as they have to be."""
        # Only redriven and buried messages have an id; ordinary ones are never taken for duplicates.
        shared = {"storage": "file", "num_replicas": self._replicas, "duplicate_window": DUPLICATES}
        queue = {
            "name": self.stream,
            "subjects": [f"{self.stream}.ready.*", f"{self.stream}.delayed.*.*"],
            "retention": "workqueue",
            "allow_msg_schedules": True,
            "allow_direct": True,
            "max_consumers": MOST_TOPICS,
            **shared,
        }
        dead = {
            "name": self.dead_stream,
            "subjects": [f"{self.stream}.dead.*"],
            "retention": "limits",
            **shared,
        }
        return Wanted(queue), Wanted(dead)

    def consumer(self, names: TopicNames) -> dict[str, Any]:
        """The configuration of a topic's consumer."""
        return {
            "name": names.consumer,
            "durable_name": names.consumer,
            "filter_subject": names.ready,
            "ack_policy": "explicit",
            "ack_wait": self._lease,
            "max_deliver": UNLIMITED,
            "max_ack_pending": UNLIMITED,
            "max_waiting": MOST_WAITING,
            "num_replicas": 0,  # as the stream
        }
