"""Dead letters: messages in a separate stream, with reason, time and attempt in their headers.

A message is always added at its new place before it is removed from the old one.
"""

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from brrr_core.backend import DeadLetter, Delivery, LetterBox, StoredLetter, check_limit
from brrr_nats.client.errors import api_error
from brrr_nats.client.messages import Request, stored_message
from brrr_nats.client.requests import RequestClient
from brrr_nats.queue.clocks import read_time
from brrr_nats.queue.layout import Layout, TopicNames
from brrr_nats.queue.settling import Receipt

__all__ = ["MESSAGE_ID_HEADER", "DeadLetters", "NatsLetters", "dead_letter_request"]

MAX_MOVED_AT_ONCE: Final = 100
DELETE_FAILED: Final = 10057
ELLIPSIS: Final = " … "
ATTEMPT_HEADER: Final = "Brrr-Attempt"
REASON_HEADER: Final = "Brrr-Reason"
BURIED_AT_HEADER: Final = "Brrr-Buried-At"
MESSAGE_ID_HEADER: Final = "Nats-Msg-Id"
UNQUOTED: Final = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}"
"""Characters that stay as they are in a reason, beside letters, digits and `_.-~`."""


class _Stored(NamedTuple):
    """A dead letter, its number in the stream, and a name that differs from those in a later stream of that name."""

    letter: DeadLetter
    sequence: int
    name: str

    @property
    def id(self) -> str:
        """Its id: a number alone could name another one in a later stream of that name."""
        return f"{self.sequence}.{self.name}"


class DeadLetters:
    """The stream of dead letters."""

    def __init__(self, client: RequestClient, layout: Layout) -> None:
        self._client = client
        self._layout = layout

    async def page(self, names: TopicNames, limit: int, after: str | None) -> list[StoredLetter]:
        """Return the dead letters that follow the one with the id `after`. Raises `ApiError`."""
        begin = 1 if after is None else _sequence_of(after) + 1
        return [StoredLetter(stored.id, stored.letter) for stored in await self._oldest(names, limit, begin)]

    async def find(self, names: TopicNames, ids: Sequence[str]) -> list[StoredLetter]:
        """Return the dead letters with these ids. Raises `ApiError`."""
        return [StoredLetter(stored.id, stored.letter) async for stored in self._with_ids(names, ids)]

    async def remove_chosen(self, names: TopicNames, ids: Sequence[str], *, put_back: bool) -> int:
        """Do as `remove` does, with the dead letters that have these ids. Raises `ApiError`."""
        chosen, done = [stored async for stored in self._with_ids(names, ids)], 0
        for begin in range(0, len(chosen), MAX_MOVED_AT_ONCE):
            done += await self._take(names, chosen[begin : begin + MAX_MOVED_AT_ONCE], put_back=put_back)
        return done

    async def _with_ids(self, names: TopicNames, ids: Sequence[str]) -> AsyncGenerator[_Stored, None]:
        subject = self._client.api_subject(f"STREAM.MSG.GET.{self._layout.dead_stream}")
        wanted = {identity: number for identity in ids if (number := _sequence_of(identity)) > 0}
        for begin in range(0, len(wanted), MAX_MOVED_AT_ONCE):
            numbers = list(wanted.values())[begin : begin + MAX_MOVED_AT_ONCE]
            requests = [Request(subject, b'{"seq":%d}' % number) for number in numbers]
            for reply in await self._client.request_many(requests, idempotent=True):
                error = api_error(reply.payload)
                if error is not None and error.missing:
                    continue
                if error is not None:
                    raise error
                message = json.loads(reply.payload)["message"]
                if message["subject"] == names.dead and (stored := _parse(names.topic, message)).id in wanted:
                    yield stored

    async def read(self, names: TopicNames, limit: int) -> list[DeadLetter]:
        """Return the oldest dead letters. Raises `ApiError`."""
        return [stored.letter for stored in await self._oldest(names, limit, 1)]

    async def remove(self, names: TopicNames, limit: int, *, put_back: bool) -> int:
        """Delete the oldest dead letters; first put them on their topic if `put_back`. Return how many were deleted.

        The server recognises a dead letter by its name for two minutes. So concurrent or repeated calls within that
        time put no second message. Raises `ApiError`.
        """
        done, begin = 0, 1
        while done < limit:
            letters = await self._oldest(names, min(MAX_MOVED_AT_ONCE, limit - done), begin)
            if not letters:
                break
            done += await self._take(names, letters, put_back=put_back)
            begin = letters[-1].sequence + 1
        return done

    async def _take(self, names: TopicNames, letters: list[_Stored], *, put_back: bool) -> int:
        if put_back:
            ids = [{MESSAGE_ID_HEADER: f"redriven.{stored.name}"} for stored in letters]
            bodies = [stored.letter.body for stored in letters]
            await self._client.publish([Request(names.ready, *each) for each in zip(bodies, ids, strict=True)])
        return await self._delete(letters)

    async def _oldest(self, names: TopicNames, limit: int, begin: int) -> list[_Stored]:
        """Return dead letters from a number on.

        One request for each, since each reply gives the place of the next. This request goes to the leader, which knows
        the newest ones; a request for several goes to any replica.
        """
        subject = self._client.api_subject(f"STREAM.MSG.GET.{self._layout.dead_stream}")
        found: list[_Stored] = []
        while len(found) < limit:
            request = Request(subject, b'{"seq":%d,"next_by_subj":"%b"}' % (begin, names.dead.encode()))
            (reply,) = await self._client.request_many([request], idempotent=True)
            error = api_error(reply.payload)
            if error is not None and error.missing:
                break
            if error is not None:
                raise error
            found.append(_parse(names.topic, json.loads(reply.payload)["message"]))
            begin = found[-1].sequence + 1
        return found

    async def _delete(self, letters: list[_Stored]) -> int:
        """Delete dead letters. Return how many of them existed."""
        subject = self._client.api_subject(f"STREAM.MSG.DELETE.{self._layout.dead_stream}")
        requests = [Request(subject, b'{"seq":%d,"no_erase":true}' % stored.sequence) for stored in letters]
        deleted = 0
        for reply in await self._client.request_many(requests):
            error = api_error(reply.payload)
            if error is None:
                deleted += 1
            elif not (error.missing or (error.code == DELETE_FAILED and "found" in error.text)):  # deleted already
                raise error
        return deleted


class NatsLetters(LetterBox):
    """The dead letters by their ids: the number and the time in the stream."""

    def __init__(self, client: RequestClient, layout: Layout, letters: DeadLetters) -> None:
        self._client = client
        self._layout = layout
        self._letters = letters

    async def page(self, topic: str, *, limit: int, after: str | None = None) -> list[StoredLetter]:
        """Return the next dead letters."""
        names = self._layout.topic(topic)
        check_limit(limit)
        self._client.gate.check()
        with self._client.translating():
            return await self._letters.page(names, limit, after)

    async def find(self, topic: str, ids: Sequence[str]) -> list[StoredLetter]:
        """Return the dead letters with these ids."""
        names = self._layout.topic(topic)
        self._client.gate.check()
        with self._client.translating():
            return await self._letters.find(names, ids)

    async def redrive(self, topic: str, ids: Sequence[str]) -> int:
        """Put dead letters back as new messages."""
        return await self._remove(topic, ids, put_back=True)

    async def drop(self, topic: str, ids: Sequence[str]) -> int:
        """Delete dead letters."""
        return await self._remove(topic, ids, put_back=False)

    async def _remove(self, topic: str, ids: Sequence[str], *, put_back: bool) -> int:
        names = self._layout.topic(topic)
        self._client.gate.check()
        with self._client.translating():
            return await self._letters.remove_chosen(names, ids, put_back=put_back)


def dead_letter_request(
    names: TopicNames, delivery: Delivery, receipt: Receipt, now: float, *, reason: str, max_reason_bytes: int
) -> Request:
    """Return the request that stores a message as a dead letter. The server recognises a repetition for two minutes.

    `now` is in Unix seconds. If the reason is longer than `max_reason_bytes`, its middle is left out.
    """
    headers = {
        ATTEMPT_HEADER: str(delivery.attempt),
        BURIED_AT_HEADER: repr(now),
        REASON_HEADER: _shorten(reason, max_reason_bytes),
        MESSAGE_ID_HEADER: f"dead.{receipt.message_id}",
    }
    return Request(names.dead, delivery.body, headers)


def _shorten(reason: str, max_bytes: int) -> str:
    """Encode a reason as one line of at most `max_bytes`."""
    keep, text = len(reason), reason
    while len(encoded := quote(text.encode(errors="backslashreplace"), safe=UNQUOTED)) > max_bytes:
        keep = int(keep * 0.9 * max_bytes / len(encoded))
        text = f"{reason[: keep // 2]}{ELLIPSIS}{reason[-(keep // 2) :]}" if keep > 1 else ""
        if not text:
            return ""
    # Servers strip the spaces around a header's value.
    return encoded if encoded == encoded.strip() else encoded.replace(" ", "%20")


def _sequence_of(identity: str) -> int:
    """Return the number in the id of a dead letter; 0 if it is not such an id."""
    number = identity.partition(".")[0]
    return int(number) if number.isdecimal() and len(number) < 19 else 0


def _parse(topic: str, message: dict[str, str]) -> _Stored:
    """Return the dead letter in the JSON of a stored message."""
    stored = stored_message(message)
    headers, sequence, time = stored.headers, int(message["seq"]), message["time"]
    buried = float(headers[BURIED_AT_HEADER]) if BURIED_AT_HEADER in headers else read_time(time)
    reason, attempt = unquote(headers.get(REASON_HEADER, "")), int(headers.get(ATTEMPT_HEADER, "1"))
    return _Stored(DeadLetter(topic, stored.payload, reason, attempt, buried), sequence, f"{time}.{sequence}")
