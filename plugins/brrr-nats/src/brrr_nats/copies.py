"""Requests that a guard keeps from being done twice: they are sent again, and it is known which may be done already."""

from math import inf

__all__ = ["Copies"]


class Copies:
    """What became of guarded requests that were sent together.

    Args:
        patience: Seconds after the first of a request in which copies of it are sent.
        limit: When to send no more of them, by the loop's clock; given where some are copies themselves.

    Attributes:
        since: When the first one of a request was sent, by the loop's clock, for each that may have been done by a
            copy that is not the one that was answered.
    """

    __slots__ = ("_limit", "patience", "since")

    def __init__(self, patience: float, limit: float = inf) -> None:
        self.patience = patience
        self._limit = limit
        self.since: dict[int, float] = {}

    @property
    def until(self) -> float:
        """When to send no more copies."""
        return min(self._limit, min(self.since.values(), default=inf) + self.patience)

    @property
    def doubtful(self) -> bool:
        """Whether some may have been done by a copy that was not answered."""
        return self.until < inf
