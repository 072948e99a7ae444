"""Names of the two queues of a topic. Different topics, or prefixes, never share a queue.

SQS allows 80 letters, digits, hyphens and underscores. A name is `PREFIX__TOPIC`, and `PREFIX__TOPIC__dead` for the
dead letters. Other characters of a topic are escaped as `_xHH` per byte; an underscore stays as it is unless it looks
like the start of an escape. Prefixes and escaped topics never contain `__`, which separates the parts.
"""

import re
from base64 import b32encode
from hashlib import sha256
from typing import Final, NamedTuple

from brrr_core.backend import check_topic

__all__ = ["MAX_PREFIX_CHARS", "PREFIX", "Names", "names_of"]

MAX_NAME_CHARS: Final = 80
"""Longest name that SQS allows."""

MAX_PREFIX_CHARS: Final = 30
"""Longest prefix. It leaves room for the topic."""

PREFIX: Final = re.compile(r"(?!.*__)[A-Za-z0-9-](?:[A-Za-z0-9_-]*[A-Za-z0-9-])?")
"""Valid prefixes: the characters of a queue name, without `__`, and without `_` at either end."""

DEAD: Final = "__dead"
HASH_CHARS: Final = 26
"""Length of the hash in the name of a long topic: 130 bits."""

UNSAFE: Final = re.compile(r"_(?![A-Za-wyz0-9-])|[^A-Za-z0-9_-]")


class Names(NamedTuple):
    """The two queues of a topic."""

    main: str
    dead: str


def names_of(prefix: str, topic: str) -> Names:
    """Return the names of a topic's queues. A long topic is cut, and gets a hash of the whole topic.

    Raises:
        ArgumentError: The topic is empty.
    """
    check_topic(topic)
    max_topic_chars = MAX_NAME_CHARS - len(prefix) - len("__") - len(DEAD)
    escaped = UNSAFE.sub(_escape, topic)
    if len(escaped) > max_topic_chars:
        digest = b32encode(sha256(topic.encode(errors="surrogatepass")).digest()).decode().lower()[:HASH_CHARS]
        escaped = f"{escaped[: max_topic_chars - HASH_CHARS - 2].rstrip('_')}__{digest}"
    main = f"{prefix}__{escaped}"
    return Names(main, main + DEAD)


def _escape(unsafe: re.Match[str]) -> str:
    return "".join(f"_x{byte:02x}" for byte in unsafe[0].encode(errors="surrogatepass"))
