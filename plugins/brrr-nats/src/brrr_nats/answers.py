"""What servers answer to a change of a record."""

from typing import Final

from brrr_core.errors import BackendUnavailableError
from brrr_nats.failures import ApiError
from brrr_nats.link import Link
from brrr_nats.messages import Reply

__all__ = ["WRONG_LAST", "not_taken", "sequence"]

WRONG_LAST: Final = {10071, 10164}
"""Codes by which another message stands under the subject, or another is being stored at the moment."""

GIVEN_UP: Final = 10176
"""The code by which nothing of a batch was stored, because some of it did not arrive."""


def sequence(reply: Reply) -> int:
    """The revision that an acknowledgement names."""
    payload = reply.payload
    at = payload.index(b'"seq":') + 6
    end = at
    while payload[end : end + 1].isdigit():
        end += 1
    return int(payload[at:end])


def not_taken(error: ApiError, link: Link) -> Exception:
    """The error of a change that was not made."""
    if error.code == GIVEN_UP:
        return BackendUnavailableError(
            f"nats at {link.where} gave up a batch of messages, and stored none of them ({error})",
            remedy="Try again: the stream's leader changed meanwhile, or the network stood still for 10 s.",
        )
    return link.translated(error)
