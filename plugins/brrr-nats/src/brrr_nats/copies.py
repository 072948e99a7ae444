"""Requests that a guard keeps from being done twice: they are sent again, and it is known which may be done already."""

from math import inf

__all__ = ["Copies"]


class Copies:
    """What became of guarded requests that were sent together.

    Args:
        patience: Seconds after the first of a request in which copies of it are sent.

    Attributes:
        since: When the first one of a request was sent, by the loop's clock, for each that may have been done by a
            copy that is not the one that was answered.
    """

    __slots__ = ("patience", "since")

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.since: dict[int, float] = {}

    @property
    def until(self) -> float:
        """When to send no more copies."""
        return min(self.since.values(), default=inf) + self.patience
