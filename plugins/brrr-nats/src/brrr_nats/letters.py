"""Dead letters: messages of a stream of their own, with why, when and in which attempt in their headers."""

import json
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote

from brrr_core.backend import DeadLetter, Delivery
from brrr_nats.clock import read_time
from brrr_nats.failures import api_error
from brrr_nats.layout import TopicNames
from brrr_nats.messages import Reply, Request, told_message
from brrr_nats.receipts import Receipt

__all__ = ["MESSAGE_ID", "Kept", "kept_letter", "letter_request", "shortened"]

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
