"""The dead letters of the memory backend by their ids: their numbers."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Final, TypeAlias

from brrr_core.backend.checks import check_limit
from brrr_core.backend.contracts import DeadLetter
from brrr_core.backend.inspection import LetterBox, StoredLetter

__all__ = ["MemoryLetters", "Numbered", "Removal"]

Numbered: TypeAlias = list[tuple[int, DeadLetter]]
"""The dead letters of a topic, in the order of their numbers. Such a list is never changed, except at its end."""

Removal: TypeAlias = Callable[[Numbered], tuple[Numbered, Numbered]]
"""Returns the dead letters to remove, and those to keep."""

NUMBER: Final = itemgetter(0)


class MemoryLetters(LetterBox):
    """Finds dead letters by binary search.

    Args:
        read: Returns the dead letters of a topic.
        remove: Removes dead letters of a topic, and returns their number; `again` puts them back.
    """

    def __init__(self, read: Callable[[str], Numbered], remove: Callable[[str, Removal, bool], int]) -> None:
        self._read = read
        self._remove = remove

    async def page(self, topic: str, *, limit: int, after: str | None = None) -> list[StoredLetter]:
        """Return the next dead letters."""
        check_limit(limit)
        numbered = self._read(topic)
        begin = 0 if after is None else bisect_right(numbered, _number(after), key=NUMBER)
        return _stored(numbered[begin : begin + limit])

    async def find(self, topic: str, ids: Sequence[str]) -> list[StoredLetter]:
        """Return the dead letters with these ids."""
        return _stored(_chosen(self._read(topic), ids))

    async def redrive(self, topic: str, ids: Sequence[str]) -> int:
        """Put dead letters back as new messages."""
        return self._remove(topic, lambda numbered: _split(numbered, ids), True)

    async def drop(self, topic: str, ids: Sequence[str]) -> int:
        """Delete dead letters."""
        return self._remove(topic, lambda numbered: _split(numbered, ids), False)


def _number(identity: str) -> int:
    return int(identity) if identity.isdecimal() else -1


def _stored(numbered: Iterable[tuple[int, DeadLetter]]) -> list[StoredLetter]:
    return [StoredLetter(str(number), letter) for number, letter in numbered]


def _chosen(numbered: Numbered, ids: Sequence[str]) -> Numbered:
    """Return the dead letters with these ids, in the order of the ids."""
    found: dict[int, tuple[int, DeadLetter]] = {}
    for number in map(_number, ids):
        index = bisect_left(numbered, number, key=NUMBER)
        if index < len(numbered) and numbered[index][0] == number:
            found[number] = numbered[index]
    return list(found.values())


def _split(numbered: Numbered, ids: Sequence[str]) -> tuple[Numbered, Numbered]:
    chosen = _chosen(numbered, ids)
    numbers = {number for number, _ in chosen}
    return chosen, [each for each in numbered if each[0] not in numbers]
