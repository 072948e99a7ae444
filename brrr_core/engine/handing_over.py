"""Hand a message over: put it already leased to the worker that puts it, and start it there without a receive."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from brrr_core.backend.steps import Received
from brrr_core.engine.calls import HeldDelivery

__all__ = ["HAND_OVER_LIMIT", "HandOver"]

HAND_OVER_LIMIT: Final = 16
"""The most messages in a row that one place of a worker takes without a receive, so that other messages get it too."""


class HandOver(NamedTuple):
    """A worker that takes messages over.

    Attributes:
        wants: Whether it takes a message of this topic in the place of this delivery, which is about to end.
        take: Starts the messages that were put leased, in the place of the delivery that has ended.
    """

    wants: Callable[[str, HeldDelivery], bool]
    take: Callable[[HeldDelivery, Sequence[Received]], None]
