"""Receivers that wait for the messages of a topic: their turns, their deadlines, and the next due message."""

import asyncio
from asyncio import CancelledError, Future, Handle
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final

from brrr_core.backend.tasks import closed_error
from brrr_core.errors import BackendClosedError

__all__ = ["WaitingReceivers"]

MARGIN_SECONDS: Final = 0.002
"""Seconds to add to the time when a message becomes due: servers count whole milliseconds, and their clocks differ."""


class WaitingReceivers:
    """The receivers of one topic that wait. A wake-up gives the turn to look to the one that has waited longest.

    If the receiver with the turn is cancelled, the next one gets the turn. So no ready message waits beside a waiting
    receiver if each event that makes messages ready calls `wake` or `expect`, and each look calls `looked`.

    Args:
        recheck: Seconds after which a receiver looks again without an event.
        unused: Called if a receiver that has the turn is cancelled and no other waits.

    Attributes:
        present: Is set while a receiver waits.
    """

    def __init__(self, *, recheck: float = inf, unused: Callable[[], None] = lambda: None) -> None:
        self.present = asyncio.Event()
        self._recheck = recheck
        self._unused = unused
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Future[None]] = deque()
        self._timer: Handle | None = None
        self._timer_at = inf  # kept here: for a time that has passed, uvloop returns a handle that does not know it
        self._due = inf  # by the clock of the event loop
        self._failure: Callable[[], BackendClosedError] | None = None

    async def wait(self, deadline: float, due_in: float = inf) -> None:
        """Wait until it is this receiver's turn to look, or until `deadline`.

        Args:
            deadline: When to stop waiting, by the clock of the event loop; may be infinite.
            due_in: Seconds until a message becomes due; infinite if none is known.

        Raises:
            BackendClosedError: The backend was closed.
        """
        if self._failure is not None:
            raise self._failure()
        turn: Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        self.present.set()
        self.expect(due_in)
        try:
            async with asyncio.timeout_at(None if deadline == inf else deadline):
                await turn
        except TimeoutError:
            pass
        except CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None and not self.wake():
                self._unused()
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)
            self._rest_if_empty()

    def wake(self) -> bool:
        """Give the turn to the receiver that has waited longest. Return whether one waits."""
        woken = False
        while self._waiting and not woken:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                woken = True
        self._rest_if_empty()
        return woken

    def expect(self, due_in: float) -> None:
        """Wake a receiver when a message becomes due."""
        self._due = min(self._due, self._loop.time() + due_in + MARGIN_SECONDS)
        self._set_timer()

    def looked(self, left: int, due_in: float) -> None:
        """Note the result of a look: how many ready messages it left, and the seconds until the next one is due."""
        self._due = self._loop.time() + due_in + MARGIN_SECONDS
        if left:
            self.wake()
        self._set_timer()

    def end(self, error: Callable[[], BackendClosedError] = closed_error) -> None:
        """End every wait with an error, and let no more receivers wait."""
        self._failure = self._failure or error
        self._stop_timer()
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(error())
        self._waiting.clear()

    def _set_timer(self) -> None:
        at = min(self._due, self._loop.time() + self._recheck)
        if self._waiting and at < inf and (self._timer is None or at < self._timer_at):
            self._stop_timer()
            self._timer = self._loop.call_at(at, self._on_due)
            self._timer_at = at

    def _on_due(self) -> None:
        self._timer = None
        self._due = inf  # the look will tell
        self.wake()
        self._set_timer()  # for the other receivers, if the one that looks takes long

    def _rest_if_empty(self) -> None:
        if not self._waiting:
            self.present.clear()
            self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
