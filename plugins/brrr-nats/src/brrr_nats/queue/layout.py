"""Names and configuration of the queue's two streams, their subjects, and the consumers.

| stream | subject | holds |
| --- | --- | --- |
| `STREAM` | `STREAM.ready.TOPIC` | ready and leased messages |
| `STREAM` | `STREAM.delayed.TOPIC.ID` | one delayed message per subject; the server moves it when it is due |
| `STREAM-dead` | `STREAM.dead.TOPIC` | dead letters |

TOPIC is the topic's token (see `names`). It is also the name of the topic's one consumer, which holds the leases.
"""

from typing import Any, Final, NamedTuple

from brrr_core.backend import check_topic
from brrr_nats.client.streams import DUPLICATE_WINDOW_NS, NS_PER_SECOND, StreamSpec
from brrr_nats.names import token_of
from brrr_nats.options import NatsOptions

__all__ = ["Layout", "TopicNames"]

UNLIMITED: Final = -1
MAX_TOPICS: Final = 1_000_000
"""Most consumers of the stream. By default, servers from 2.15 on allow 1,000."""

MAX_WAITING_PULLS: Final = 100_000
"""Most pulls that may wait at a consumer, one for each receiver of the fleet. By default, a server allows 512."""


class TopicNames(NamedTuple):
    """The names of one topic."""

    topic: str
    consumer: str
    ready: str
    delayed: str
    dead: str


class Layout:
    """Names of streams, subjects and consumers."""

    def __init__(self, options: NatsOptions) -> None:
        self.stream = options.stream
        self.dead_stream = f"{options.stream}-dead"
        self._replicas = options.replicas
        self._lease = int(options.lease * NS_PER_SECOND)
        self._topics: dict[str, TopicNames] = {}

    def topic(self, topic: str) -> TopicNames:
        """Return the names of a topic. Raises `ArgumentError` if it is empty or has no UTF-8 form."""
        names = self._topics.get(topic)
        if names is None:
            check_topic(topic)
            token = token_of(topic, "the topic")
            if len(self._topics) >= 1024:
                self._topics.clear()
            subjects = (f"{self.stream}.{kind}.{token}" for kind in ("ready", "delayed", "dead"))
            names = self._topics[topic] = TopicNames(topic, token, *subjects)
        return names

    def streams(self) -> tuple[StreamSpec, StreamSpec]:
        """Return the specifications of the two streams."""
        # Only dead letters, redriven messages and orphans have an id. Other messages are never duplicates.
        shared = {"storage": "file", "num_replicas": self._replicas, "duplicate_window": DUPLICATE_WINDOW_NS}
        queue = {
            "name": self.stream,
            "subjects": [f"{self.stream}.ready.*", f"{self.stream}.delayed.*.*"],
            "retention": "workqueue",
            "allow_msg_schedules": True,
            "allow_direct": True,
            "max_consumers": MAX_TOPICS,
        }
        dead = {"name": self.dead_stream, "subjects": [f"{self.stream}.dead.*"], "retention": "limits"}
        return StreamSpec(queue | shared), StreamSpec(dead | shared)

    def consumer(self, names: TopicNames) -> dict[str, Any]:
        """Return the configuration of a topic's consumer."""
        return {
            "name": names.consumer,
            "durable_name": names.consumer,
            "filter_subject": names.ready,
            "ack_policy": "explicit",
            "ack_wait": self._lease,
            "max_deliver": UNLIMITED,
            "max_ack_pending": UNLIMITED,
            "max_waiting": MAX_WAITING_PULLS,
            "num_replicas": 0,  # as the stream
        }
