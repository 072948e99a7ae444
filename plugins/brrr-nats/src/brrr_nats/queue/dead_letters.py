"""The dead letters of topics: buried, looked at, put back, dropped. Whatever is moved is added before it is removed."""

import json
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote

from brrr_core.backend import DeadLetter, Delivery
from brrr_nats.client.errors import ApiError, api_error
from brrr_nats.client.protocol import Reply, Request, told_message
from brrr_nats.client.requests import Link
from brrr_nats.queue.clock import read_time
from brrr_nats.queue.layout import Layout, TopicNames
from brrr_nats.queue.leases import Receipt

__all__ = ["MESSAGE_ID", "Graveyard", "Kept", "kept_letter", "letter_request", "shortened"]

MOST_MOVED: Final = 100
"""Dead letters that are put back or deleted together."""

DELETE_FAILED: Final = 10057
NO_MESSAGE: Final = "no message found"


CUT: Final = " … "
ATTEMPT: Final = "Brrr-Attempt"
REASON: Final = "Brrr-Reason"
BURIED: Final = "Brrr-Buried-At"
MESSAGE_ID: Final = "Nats-Msg-Id"
PLAIN: Final = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}"
"""What stands for itself in a reason, beside letters, digits and `_.-~`."""


class Kept(NamedTuple):
    """A dead letter, and what names it.

    Attributes:
        letter: The letter.
        sequence: Its number in the stream.
        name: What names it in this stream, and in any that is made under its name later.
    """

    letter: DeadLetter
    sequence: int
    name: str


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


def letter_request(names: TopicNames, delivery: Delivery, receipt: Receipt, now: float, *, reason: str) -> Request:
    """What keeps a message as a dead letter. Once more within two minutes, and the server takes it for a duplicate.

    Args:
        names: Of the topic.
        delivery: The message.
        receipt: Its receipt.
        now: In unix seconds.
        reason: Why, as `shortened` gives it.
    """
    headers = {
        ATTEMPT: str(delivery.attempt),
        BURIED: repr(now),
        REASON: reason,
        MESSAGE_ID: f"dead.{receipt.message}",
    }
    return Request(names.dead, delivery.body, headers)


def shortened(reason: str, room: int) -> str:
    """A reason as one line of at most so many bytes. The middle of one that is too long is left out."""
    keep, text = len(reason), reason
    while len(encoded := quote(text.encode(errors="backslashreplace"), safe=PLAIN)) > room:
        keep = int(keep * 0.9 * room / len(encoded))
        text = f"{reason[: keep // 2]}{CUT}{reason[-(keep // 2) :]}" if keep > 1 else ""
        if not text:
            return ""
    # A header's value loses the space around it.
    return encoded if encoded == encoded.strip() else encoded.replace(" ", "%20")


def kept_letter(topic: str, reply: Reply) -> Kept | None:
    """The letter of an answer to `STREAM.MSG.GET`; None where there is none. Raises `ApiError`."""
    error = api_error(reply.payload)
    if error is not None:
        if error.missing:
            return None
        raise error
    message: dict[str, Any] = json.loads(reply.payload)["message"]
    told = told_message(message)
    headers = told.headers
    sequence, stored = int(message["seq"]), str(message["time"])
    buried = float(headers[BURIED]) if BURIED in headers else read_time(stored)
    letter = DeadLetter(
        topic,
        told.payload,
        unquote(headers.get(REASON, "")),
        int(headers.get(ATTEMPT, "1")),
        buried,
    )
    return Kept(letter, sequence, f"{stored}.{sequence}")
