"""The dead letters of topics: buried, looked at, put back, dropped. Whatever is moved is added before it is removed."""

from collections.abc import AsyncIterator
from typing import Final

from brrr_core.backend import DeadLetter
from brrr_nats.failures import ApiError, api_error
from brrr_nats.layout import Layout, TopicNames
from brrr_nats.letters import MESSAGE_ID, Kept, kept_letter
from brrr_nats.link import Link, Request

__all__ = ["Graveyard"]

MOST_MOVED: Final = 100
"""Dead letters that are put back or deleted together."""

DELETE_FAILED: Final = 10057
NO_MESSAGE: Final = "no message found"


class Graveyard:
    """The stream of dead letters.

    Args:
        link: Asks the servers.
        layout: Names streams and subjects.
    """

    def __init__(self, link: Link, layout: Layout) -> None:
        self._link = link
        self._layout = layout

    async def look(self, names: TopicNames, limit: int) -> list[DeadLetter]:
        """The oldest letters. Raises `ApiError`."""
        return [kept.letter async for kept in self._oldest(names, limit, 1)]

    async def take(self, names: TopicNames, limit: int, *, again: bool) -> int:
        """Delete the oldest letters, after they were put on their topic where `again` says so. How many it deleted.

        Whoever puts the same letters back at the same time, or again after a failure, within two minutes, puts no
        second message: the server knows it by the letter's name. Raises `ApiError`.
        """
        done, begin = 0, 1
        while done < limit:
            letters = [kept async for kept in self._oldest(names, min(MOST_MOVED, limit - done), begin)]
            if not letters:
                break
            if again:
                await self._link.store(
                    [Request(names.ready, kept.letter.body, {MESSAGE_ID: f"redriven.{kept.name}"}) for kept in letters]
                )
            done += await self._delete(letters)
            begin = letters[-1].sequence + 1
        return done

    async def _oldest(self, names: TopicNames, limit: int, begin: int) -> AsyncIterator[Kept]:
        # One after the other: each answer says where the next one is. The leader answers, so that what was buried the
        # moment before is there; several in one answer are given by any replica.
        subject = self._link.api(f"STREAM.MSG.GET.{self._layout.dead_stream}")
        for _ in range(limit):
            request = Request(subject, b'{"seq":%d,"next_by_subj":"%b"}' % (begin, names.dead.encode()))
            (reply,) = await self._link.request_many([request], repeat=True)
            kept = kept_letter(names.topic, reply)
            if kept is None:
                return
            yield kept
            begin = kept.sequence + 1

    async def _delete(self, letters: list[Kept]) -> int:
        """Delete letters. How many of them were there."""
        subject = self._link.api(f"STREAM.MSG.DELETE.{self._layout.dead_stream}")
        requests = [Request(subject, b'{"seq":%d,"no_erase":true}' % kept.sequence) for kept in letters]
        deleted = 0
        for reply in await self._link.request_many(requests):
            error = api_error(reply.payload)
            if error is None:
                deleted += 1
            elif not _is_gone(error):
                raise error
        return deleted


def _is_gone(error: ApiError) -> bool:
    """Whether a letter cannot be deleted because somebody else has."""
    return error.missing or NO_MESSAGE in error.text or (error.code == DELETE_FAILED and "not found" in error.text)
