"""Bounds what reads have under way together, by the bytes that are expected to come.

A server ends a connection that is 64 MiB behind, and with it every request that waits on it. So a read is sent when
there is room for its answers; how large they will be is judged by those that came before.
"""

import asyncio
from asyncio import Future
from collections import deque
from typing import Final, NamedTuple

__all__ = ["LARGEST", "SAFE", "Flight", "Flights"]

LARGEST: Final = 1024 * 1024
"""Bytes that an answer may have, where nothing is known."""

ROOM: Final = 24 * LARGEST
"""Bytes of answers that are under way together. A leader's answers are a third longer, and other messages come too."""

MOST: Final = 512
"""Requests that are sent at a time: servers refuse, or drop, beyond thousands."""

SAFE: Final = ROOM // LARGEST
"""Requests whose answers have room, whatever they are."""

SLOWLY: Final = 16
"""After each flight with smaller answers, the size that is expected is less by one part of so many."""


class Flight(NamedTuple):
    """What may be sent now.

    Attributes:
        requests: How many.
        size: Bytes of answers that are expected.
    """

    requests: int
    size: int


class Flights:
    """What the reads of one connection have under way."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._room = ROOM
        self._largest = LARGEST
        self._waiting: deque[tuple[Future[Flight], int, int, int]] = deque()

    async def begin(self, wanted: int, *, least: int, each: int) -> Flight:
        """Wait for room, in turn. Whoever begins ends it as well.

        Args:
            wanted: How many requests there are.
            least: How many have to go together.
            each: Bytes that an answer has; 0 where nobody knows.
        """
        if not self._waiting:
            flight = self._take(wanted, least, each)
            if flight is not None:
                return flight
        turn: Future[Flight] = self._loop.create_future()
        self._waiting.append((turn, wanted, least, each))
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.end(turn.result())
            raise

    def end(self, flight: Flight) -> None:
        """The answers have come, or will not come."""
        self._room += flight.size
        while self._waiting:
            turn, wanted, least, each = self._waiting[0]
            if not turn.done():
                next_one = self._take(wanted, least, each)
                if next_one is None:
                    return
                turn.set_result(next_one)
            self._waiting.popleft()

    def learn(self, largest: int) -> None:
        """Note how large the largest answer of a flight was."""
        self._largest = max(1, largest, self._largest - self._largest // SLOWLY)

    def forget(self) -> None:
        """Expect the largest answers: they were more than the connection carries."""
        self._largest = LARGEST

    def _take(self, wanted: int, least: int, each: int) -> Flight | None:
        expected = each or self._largest
        requests = min(wanted, MOST, self._room // expected)
        if requests < least:
            if self._room < ROOM:
                return None
            requests = least  # there is never more room
        self._room -= requests * expected
        return Flight(requests, requests * expected)
