"""Receipts: what names one delivery, and nothing else, to the scripts."""

from collections.abc import Iterable
from itertools import count
from secrets import token_urlsafe
from typing import NamedTuple

from brrr_core.backend import DeadLetter, Delivery

__all__ = ["Receipt", "Tokens", "dead_letter", "delivery", "receipts_by_topic"]


class Receipt(NamedTuple):
    """The member of the topic's leases that is this delivery: `ID:ATTEMPT:BODY`."""

    member: bytes


class Tokens:
    """Makes tokens of claims, never twice: a random part for this backend, and a number."""

    def __init__(self) -> None:
        self._own = token_urlsafe(9)
        self._numbers = count()

    def __call__(self) -> str:
        """A token that nobody else has. It holds neither a colon nor a full stop, which end it in an id."""
        return f"{self._own}{next(self._numbers):x}"


def delivery(topic: str, member: bytes) -> Delivery:
    """The delivery that a member is."""
    _, attempt, body = member.split(b":", 2)
    return Delivery(topic, body, Receipt(member), int(attempt))


def receipts_by_topic(deliveries: Iterable[Delivery]) -> dict[str, list[bytes]]:
    """The members of deliveries, by topic. A receipt of another backend is stale here, like one that was settled."""
    members: dict[str, list[bytes]] = {}
    for each in deliveries:
        if isinstance(each.receipt, Receipt):
            members.setdefault(each.topic, []).append(each.receipt.member)
    return members


def dead_letter(topic: str, letter: bytes) -> DeadLetter:
    """The dead letter that is kept as `ATTEMPT:MILLISECOND:LENGTH:REASON` and the body."""
    attempt, millisecond, length, rest = letter.split(b":", 3)
    reason, body = rest[: int(length)], rest[int(length) :]
    return DeadLetter(topic, body, reason.decode(), int(attempt), int(millisecond) / 1000)
