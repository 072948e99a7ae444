"""The layout of keys: those of topics, records and counters.

| key | type | holds |
| --- | --- | --- |
| `TOPIC` | list | bodies of ready messages, as `docs/reference/protocol.md` defines |
| `brrr:{TAG}:inbox` | list | bodies that a blocked consumer moved here and no consumer has claimed yet |
| `brrr:{TAG}:leases` | sorted set | `ID:ATTEMPT:BODY` of each delivery; the score is the end of its lease, in ms |
| `brrr:{TAG}:delayed` | sorted set | `ID:ATTEMPTS:BODY` of each delayed message; the score is its due time, in ms |
| `brrr:{TAG}:attempts` | hash | for bodies that are ready again: how often they were delivered |
| `brrr:{TAG}:dead` | list | `ATTEMPT:MILLISECOND:LENGTH:REASON`, then the body, of each dead letter |
| `brrr:KIND:HASH` | string | a record of the store |
| `brrr_count/ROOT` | integer | the message counter of a root id |
| `brrr:counter:NAME` | integer | a counter with any other name |
| `brrr:prefix:LENGTH:PREFIX:KEY` | | each of these keys if `prefix` is set; LENGTH counts its characters |

So two prefixes, topics, records or counters never share a key. TAG is a hash tag that puts all keys of a topic into the
slot of the topic. It is the topic itself, if the topic can be a hash tag. Otherwise `:TOPIC` ends the key.
"""

from typing import Final, NamedTuple, get_args

from brrr_core.backend import Key, Kind, check_topic, encode_text
from brrr_core.errors import ArgumentError
from brrr_redis.client.slots import tag_of

__all__ = ["Layout", "TopicKeys"]

COUNT_PREFIX: Final = "brrr_count/"
COUNTER_PREFIX: Final = "brrr:counter:"
PREFIXED: Final = "brrr:prefix:"
RESERVED: Final = (
    "brrr:{",
    "brrr:call:",
    "brrr:pending_returns:",
    "brrr:value:",
    COUNT_PREFIX,
    COUNTER_PREFIX,
    PREFIXED,
)

KINDS: Final = (b"inbox", b"leases", b"delayed", b"attempts", b"dead")
"""The kinds of keys of a topic, in addition to the list of ready messages."""

MAX_CACHED_TOPICS: Final = 1024


class TopicKeys(NamedTuple):
    """The keys of one topic, in the order in which the scripts take them."""

    ready: bytes
    inbox: bytes
    leases: bytes
    delayed: bytes
    attempts: bytes
    dead: bytes


class Layout:
    """Makes the names of keys, with one prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{PREFIXED}{len(prefix)}:{prefix}:".encode() if prefix else b""
        self._topics: dict[str, TopicKeys] = {}
        self._records = {kind: self._prefix + f"brrr:{kind}:".encode() for kind in get_args(Kind)}

    @property
    def prefix(self) -> bytes:
        """The beginning of all keys."""
        return self._prefix

    def topic_of(self, key: bytes) -> str | None:
        """Return the topic to which a key belongs; None if it is not a key of a topic."""
        if not key.startswith(self._prefix):
            return None
        name, ready = key[len(self._prefix) :], key
        if name.startswith(b"brrr:{"):
            tag, _, rest = name[len(b"brrr:{") :].partition(b"}:")
            kind, colon, ready = rest.partition(b":")
            if kind not in KINDS or kind == b"attempts":  # attempts stay when the messages are gone
                return None
            ready = ready if colon else tag
        try:
            topic = ready[len(self._prefix) :].decode()
        except UnicodeDecodeError:
            return None
        return topic if ready.startswith(self._prefix) and topic and not topic.startswith(RESERVED) else None

    def topic(self, topic: str) -> TopicKeys:
        """Return the keys of a topic.

        Raises:
            ArgumentError: The topic is empty, is not valid UTF-8, or begins like a key of brrr.
        """
        keys = self._topics.get(topic)
        if keys is None:
            if len(self._topics) >= MAX_CACHED_TOPICS:
                self._topics.clear()
            keys = self._topics[topic] = self._keys_of(topic)
        return keys

    def record(self, key: Key) -> bytes:
        """Return the key of a record."""
        return self._records[key.kind] + encode_text(key.call_hash, "the call hash")

    def counter(self, name: str) -> bytes:
        """Return the key of a counter."""
        return self._prefix + encode_text(
            name if name.startswith(COUNT_PREFIX) else COUNTER_PREFIX + name, "the counter"
        )

    def _keys_of(self, topic: str) -> TopicKeys:
        check_topic(topic)
        if topic.startswith(RESERVED):
            raise ArgumentError(
                f"the topic {topic!r} begins like a key of brrr",
                remedy=f"Choose a topic that does not begin with {', '.join(RESERVED)}.",
            )
        ready = self._prefix + encode_text(topic, "the topic")
        tag = tag_of(ready)
        begin, end = self._prefix + b"brrr:{" + tag + b"}:", b"" if tag == ready else b":" + ready
        return TopicKeys(ready, *(begin + name + end for name in KINDS))
