"""Dead letters: messages in a stream of their own, with reason, time and attempt in their headers.

A message is always added at its new place before it is removed from the old one.
"""

import json
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote

from brrr_core.backend import DeadLetter, Delivery
from brrr_nats.client.errors import ApiError, api_error
from brrr_nats.client.protocol import Reply, Request, stored_message
from brrr_nats.client.requests import RequestClient
from brrr_nats.queue.clock import read_time
from brrr_nats.queue.layout import Layout, TopicNames
from brrr_nats.queue.leases import Receipt

__all__ = [
    "MESSAGE_ID_HEADER",
    "DeadLetters",
    "StoredDeadLetter",
    "dead_letter_request",
    "parse_dead_letter",
    "shorten_reason",
]

MAX_MOVED_AT_ONCE: Final = 100
"""Dead letters that are put back or deleted together."""

DELETE_FAILED: Final = 10057
NO_MESSAGE: Final = "no message found"


ELLIPSIS: Final = " … "
ATTEMPT_HEADER: Final = "Brrr-Attempt"
REASON_HEADER: Final = "Brrr-Reason"
BURIED_AT_HEADER: Final = "Brrr-Buried-At"
MESSAGE_ID_HEADER: Final = "Nats-Msg-Id"
UNQUOTED: Final = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}"
"""Characters that stay as they are in a reason, beside letters, digits and `_.-~`."""


class StoredDeadLetter(NamedTuple):
    """A dead letter with its place in the stream.

    Attributes:
        letter: The dead letter.
        sequence: Its number in the stream.
        name: A name that also differs from those in a later stream of the same name.
    """

    letter: DeadLetter
    sequence: int
    name: str


class DeadLetters:
    """The stream of dead letters.

    Args:
        client: The client.
        layout: Names of streams and subjects.
    """

    def __init__(self, client: RequestClient, layout: Layout) -> None:
        self._client = client
        self._layout = layout

    async def read(self, names: TopicNames, limit: int) -> list[DeadLetter]:
        """Return the oldest dead letters. Raises `ApiError`."""
        return [stored.letter async for stored in self._oldest(names, limit, 1)]

    async def remove(self, names: TopicNames, limit: int, *, put_back: bool) -> int:
        """Delete the oldest dead letters; first put them on their topic if `put_back`. Return how many were deleted.

        The server recognises a dead letter by its name for two minutes. So concurrent or repeated calls within that
        time put no second message. Raises `ApiError`.
        """
        done, begin = 0, 1
        while done < limit:
            letters = [stored async for stored in self._oldest(names, min(MAX_MOVED_AT_ONCE, limit - done), begin)]
            if not letters:
                break
            if put_back:
                await self._client.publish(
                    [
                        Request(names.ready, stored.letter.body, {MESSAGE_ID_HEADER: f"redriven.{stored.name}"})
                        for stored in letters
                    ]
                )
            done += await self._delete(letters)
            begin = letters[-1].sequence + 1
        return done

    async def _oldest(self, names: TopicNames, limit: int, begin: int) -> AsyncIterator[StoredDeadLetter]:
        # One request per dead letter, since each reply gives the place of the next. This request goes to the leader,
        # which knows the newest ones; a request for several goes to any replica.
        subject = self._client.api_subject(f"STREAM.MSG.GET.{self._layout.dead_stream}")
        for _ in range(limit):
            request = Request(subject, b'{"seq":%d,"next_by_subj":"%b"}' % (begin, names.dead.encode()))
            (reply,) = await self._client.request_many([request], idempotent=True)
            stored = parse_dead_letter(names.topic, reply)
            if stored is None:
                return
            yield stored
            begin = stored.sequence + 1

    async def _delete(self, letters: list[StoredDeadLetter]) -> int:
        """Delete dead letters. Return how many of them existed."""
        subject = self._client.api_subject(f"STREAM.MSG.DELETE.{self._layout.dead_stream}")
        requests = [Request(subject, b'{"seq":%d,"no_erase":true}' % stored.sequence) for stored in letters]
        deleted = 0
        for reply in await self._client.request_many(requests):
            error = api_error(reply.payload)
            if error is None:
                deleted += 1
            elif not _is_gone(error):
                raise error
        return deleted


def _is_gone(error: ApiError) -> bool:
    """Whether the dead letter was deleted already."""
    return error.missing or NO_MESSAGE in error.text or (error.code == DELETE_FAILED and "not found" in error.text)


def dead_letter_request(names: TopicNames, delivery: Delivery, receipt: Receipt, now: float, *, reason: str) -> Request:
    """Return the request that stores a message as a dead letter. The server recognises a repetition for two minutes.

    Args:
        names: The topic's names.
        delivery: The message.
        receipt: Its receipt.
        now: Unix seconds.
        reason: The result of `shorten_reason`.
    """
    headers = {
        ATTEMPT_HEADER: str(delivery.attempt),
        BURIED_AT_HEADER: repr(now),
        REASON_HEADER: reason,
        MESSAGE_ID_HEADER: f"dead.{receipt.message_id}",
    }
    return Request(names.dead, delivery.body, headers)


def shorten_reason(reason: str, max_bytes: int) -> str:
    """Encode a reason as one line of at most `max_bytes`; leave out its middle if it is too long."""
    keep, text = len(reason), reason
    while len(encoded := quote(text.encode(errors="backslashreplace"), safe=UNQUOTED)) > max_bytes:
        keep = int(keep * 0.9 * max_bytes / len(encoded))
        text = f"{reason[: keep // 2]}{ELLIPSIS}{reason[-(keep // 2) :]}" if keep > 1 else ""
        if not text:
            return ""
    # Servers strip the spaces around a header's value.
    return encoded if encoded == encoded.strip() else encoded.replace(" ", "%20")


def parse_dead_letter(topic: str, reply: Reply) -> StoredDeadLetter | None:
    """Return the dead letter in a reply to `STREAM.MSG.GET`, or None. Raises `ApiError`."""
    error = api_error(reply.payload)
    if error is not None:
        if error.missing:
            return None
        raise error
    message_json: dict[str, Any] = json.loads(reply.payload)["message"]
    message_read = stored_message(message_json)
    headers = message_read.headers
    sequence, stored = int(message_json["seq"]), str(message_json["time"])
    buried = float(headers[BURIED_AT_HEADER]) if BURIED_AT_HEADER in headers else read_time(stored)
    letter = DeadLetter(
        topic,
        message_read.payload,
        unquote(headers.get(REASON_HEADER, "")),
        int(headers.get(ATTEMPT_HEADER, "1")),
        buried,
    )
    return StoredDeadLetter(letter, sequence, f"{stored}.{sequence}")
