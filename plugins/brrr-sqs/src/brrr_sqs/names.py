"""Names of queues: which two a topic has, so that no two topics of no two prefixes share one.

SQS takes 80 letters, digits, hyphens and underscores. A name is `PREFIX__TOPIC`, and `PREFIX__TOPIC__dead` for the dead
letters. What a name cannot hold of a topic is escaped as `_xHH` for each byte; an underscore stays one where it begins
no escape. Two underscores in a row stand in no prefix and in no escaped topic: they are what separates the parts.
"""

import re
from base64 import b32encode
from hashlib import sha256
from typing import Final, NamedTuple

from brrr_core.backend.checks import check_topic

__all__ = ["LONGEST_PREFIX", "PREFIX", "Names", "names_of"]

LONGEST: Final = 80
"""Characters of a queue's name (SQS' limits)."""

LONGEST_PREFIX: Final = 30
"""Characters of a prefix, so that what follows can be told apart."""

PREFIX: Final = re.compile(r"(?!.*__)[A-Za-z0-9-](?:[A-Za-z0-9_-]*[A-Za-z0-9-])?")
"""A prefix: what a queue's name may hold, without two underscores in a row, or one at an end."""

DEAD: Final = "__dead"
HASH_LENGTH: Final = 26
"""Characters of the hash of a topic that is too long: 130 bits."""

UNSAFE: Final = re.compile(r"_(?![A-Za-wyz0-9-])|[^A-Za-z0-9_-]")


class Names(NamedTuple):
    """The two queues of a topic."""

    main: str
    dead: str


def names_of(prefix: str, topic: str) -> Names:
    """The queues of a topic.

    A topic whose name would be too long has its beginning, and a hash of all of it.

    Raises:
        ArgumentError: The topic is empty.
    """
    check_topic(topic)
    room = LONGEST - len(prefix) - len("__") - len(DEAD)
    escaped = UNSAFE.sub(_escape, topic)
    if len(escaped) > room:
        digest = b32encode(sha256(topic.encode(errors="surrogatepass")).digest()).decode().lower()[:HASH_LENGTH]
        escaped = f"{escaped[: room - HASH_LENGTH - 2].rstrip('_')}__{digest}"
    main = f"{prefix}__{escaped}"
    return Names(main, main + DEAD)


def _escape(unsafe: re.Match[str]) -> str:
    return "".join(f"_x{byte:02x}" for byte in unsafe[0].encode(errors="surrogatepass"))
