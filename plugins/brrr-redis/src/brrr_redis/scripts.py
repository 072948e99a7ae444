"""The scripts that run on the server, from the files in `lua/`."""

from dataclasses import dataclass, field
from hashlib import sha1
from importlib.resources import files
from typing import Final

__all__ = [
    "ACK",
    "BURY",
    "CLAIM",
    "DELAY",
    "DROP",
    "EXTEND",
    "INCREMENT",
    "REDRIVE",
    "RELEASE",
    "STATS",
    "SWAP",
    "UNCLAIM",
    "WRITE",
    "Script",
]


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the name by which servers know it once they have seen it."""

    source: str = field(repr=False)
    digest: str


def _read(name: str) -> str:
    return (files("brrr_redis") / "lua" / f"{name}.lua").read_text(encoding="utf-8")


def _script(source: str) -> Script:
    return Script(source, sha1(source.encode(), usedforsecurity=False).hexdigest())


def _of_topic(name: str) -> Script:
    return _script(f"{TOPIC}\n{_read(name)}")


TOPIC: Final = _read("topic")
ACK: Final = _of_topic("ack")
BURY: Final = _of_topic("bury")
CLAIM: Final = _of_topic("claim")
DELAY: Final = _of_topic("delay")
DROP: Final = _of_topic("drop")
EXTEND: Final = _of_topic("extend")
REDRIVE: Final = _of_topic("redrive")
RELEASE: Final = _of_topic("release")
STATS: Final = _of_topic("stats")
UNCLAIM: Final = _of_topic("unclaim")
INCREMENT: Final = _script(_read("increment"))
SWAP: Final = _script(_read("swap"))
WRITE: Final = _script(_read("write"))
