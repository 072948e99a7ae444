"""The Lua scripts that run on the server, read from the files of this folder."""

from importlib.resources import files
from typing import Final

from brrr_redis.client.commands import Script

__all__ = [
    "ACK",
    "BURY",
    "CLAIM",
    "COMMIT",
    "DELAY",
    "DROP",
    "EXTEND",
    "FIND_LETTERS",
    "INCREMENT",
    "LIST_TOPICS",
    "PAGE_LETTERS",
    "PEEK",
    "PURGE",
    "READ",
    "REDRIVE",
    "RELEASE",
    "STATS",
    "SWAP",
    "TAKE_LETTERS",
    "UNCLAIM",
    "WRITE",
]


def _read(name: str) -> str:
    return (files(__name__) / f"{name}.lua").read_text(encoding="utf-8")


def _of_topic(*names: str) -> Script:
    return Script.of("\n".join((CLOCK, TOPIC, *map(_read, names))))


CLOCK: Final = _read("clock")
TOPIC: Final = _read("topic")
ACK: Final = _of_topic("ack")
BURY: Final = _of_topic("letters", "bury")
CLAIM: Final = _of_topic("records", "claim")
SWEEP_TOPIC: Final = "\n".join(("local function sweep_topic(first)", TOPIC, "use_topic(first)", "sweep()", "end"))
"""Only a few steps sweep, so a script creates the functions of a topic only when it sweeps."""
COMMIT: Final = Script.of("\n".join((CLOCK, SWEEP_TOPIC, _read("commit"))))
DELAY: Final = _of_topic("delay")
DROP: Final = _of_topic("drop")
EXTEND: Final = _of_topic("extend")
FIND_LETTERS: Final = _of_topic("letters", "find_letters")
PAGE_LETTERS: Final = _of_topic("letters", "page_letters")
REDRIVE: Final = _of_topic("letters", "redrive")
RELEASE: Final = _of_topic("release")
TAKE_LETTERS: Final = _of_topic("letters", "take_letters")
STATS: Final = _of_topic("stats")
UNCLAIM: Final = _of_topic("unclaim")
INCREMENT: Final = Script.of(_read("increment"))
LIST_TOPICS: Final = Script.of(_read("list_topics"))
PEEK: Final = _of_topic("peek")
PURGE: Final = _of_topic("purge")
READ: Final = Script.of(_read("read"))
SWAP: Final = Script.of(_read("swap"))
WRITE: Final = Script.of(_read("write"))
