"""Where everything is kept: the keys of topics, records and counters.

| key | type | holds |
| --- | --- | --- |
| `TOPIC` | list | what is ready: bodies, as PROTOCOL.md has it |
| `brrr:{TAG}:inbox` | list | bodies that a blocked consumer moved here, and that nobody has claimed yet |
| `brrr:{TAG}:leases` | sorted set | `ID:ATTEMPT:BODY` of each delivery, by the millisecond in which its lease ends |
| `brrr:{TAG}:delayed` | sorted set | `ID:ATTEMPTS:BODY`, by the millisecond in which it becomes ready |
| `brrr:{TAG}:attempts` | hash | how often bodies on the list were delivered before, of those that were |
| `brrr:{TAG}:dead` | list | `ATTEMPT:MILLISECOND:LENGTH:REASON` and the body |
| `brrr:KIND:HASH` | string | a record of the store |
| `brrr_count/ROOT` | integer | the counter of a root |
| `brrr:counter:NAME` | integer | a counter with any other name |
| `brrr:prefix:LENGTH:PREFIX:KEY` | | each of these keys, if the URL has a prefix of LENGTH characters |

So no two pairs of a prefix and a topic, record or counter share a key. TAG puts the keys of a topic into the topic's
own slot of a cluster. It is the topic itself where that can be a hash tag; where it is not, the topic follows at the
end of the key.
"""

from typing import Final, NamedTuple

from brrr_core.backend import Key
from brrr_core.backend.checks import check_topic
from brrr_core.errors import ArgumentError
from brrr_redis.client.slots import tag_of

__all__ = ["Layout", "TopicKeys", "encoded"]

COUNT: Final = "brrr_count/"
COUNTER: Final = "brrr:counter:"
PREFIXED: Final = "brrr:prefix:"
RESERVED: Final = ("brrr:{", "brrr:call:", "brrr:pending_returns:", "brrr:value:", COUNT, COUNTER, PREFIXED)


class TopicKeys(NamedTuple):
    """The keys of one topic, in the order in which the scripts take them."""

    ready: bytes
    inbox: bytes
    leases: bytes
    delayed: bytes
    attempts: bytes
    dead: bytes


class Layout:
    """Names keys, all behind one prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{PREFIXED}{len(prefix)}:{prefix}:".encode() if prefix else b""
        self._topics: dict[str, TopicKeys] = {}

    def topic(self, topic: str) -> TopicKeys:
        """The keys of a topic.

        Raises:
            ArgumentError: The topic is empty, has no UTF-8 form, or is the name of a key of brrr's own.
        """
        keys = self._topics.get(topic)
        if keys is None:
            if len(self._topics) >= 1024:
                self._topics.clear()
            keys = self._topics[topic] = self._keys_of(topic)
        return keys

    def record(self, key: Key) -> bytes:
        """The key of a record."""
        return self._prefix + encoded(f"brrr:{key.kind}:{key.call_hash}", "the call hash")

    def counter(self, name: str) -> bytes:
        """The key of a counter."""
        return self._prefix + encoded(name if name.startswith(COUNT) else COUNTER + name, "the counter")

    def _keys_of(self, topic: str) -> TopicKeys:
        check_topic(topic)
        if topic.startswith(RESERVED):
            raise ArgumentError(
                f"the topic {topic!r} begins as brrr's own keys do", remedy=f"Begin it unlike {', '.join(RESERVED)}."
            )
        ready = self._prefix + encoded(topic, "the topic")
        tag = tag_of(ready)
        begin, end = self._prefix + b"brrr:{" + tag + b"}:", b"" if tag == ready else b":" + ready
        return TopicKeys(
            ready, *(begin + name + end for name in (b"inbox", b"leases", b"delayed", b"attempts", b"dead"))
        )


def encoded(text: str, what: str) -> bytes:
    """The text as UTF-8. Raises `ArgumentError` where it has no such form."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ArgumentError(
            f"{what} {text!r} holds half a surrogate pair", remedy="Give it as text that UTF-8 can carry."
        ) from error
