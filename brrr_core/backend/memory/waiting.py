"""Receivers that wait for the messages of a topic, in any number of event loops, and the alarms that wake them.

Call everything here with the lock of the space held, unless a docstring says otherwise.

No receiver is woken without a message for it, and no message waits beside an idle receiver. While messages are ready,
either the receivers that were woken and have not run yet can take all of them, or every receiver was woken.
"""

from asyncio import AbstractEventLoop, TimerHandle
from collections import OrderedDict
from collections.abc import Callable
from math import inf

__all__ = ["WaitQueue", "Waiter"]


class Waiter:
    """A waiting `receive`. It awaits `future`, and then takes up to `limit` messages."""

    __slots__ = ("future", "limit", "loop", "timer", "woken")

    def __init__(self, loop: AbstractEventLoop, limit: int) -> None:
        self.loop = loop
        self.limit = limit
        self.future = loop.create_future()
        self.timer: TimerHandle | None = None
        self.woken = False

    def wake(self) -> None:
        """End the wait. Call it in the waiter's own loop, with or without the lock."""
        if not self.future.done():
            self.future.set_result(None)


class Alarm:
    """Fires in one event loop when the next message of the topic falls due, while receivers of that loop wait.

    Each loop has its own alarm, so a loop that hangs delays only itself. `on_alarm` is called without the lock.
    """

    __slots__ = ("_clock", "_handle", "_loop", "_on_alarm", "at", "users")

    def __init__(
        self, loop: AbstractEventLoop, clock: Callable[[], float], on_alarm: Callable[["Alarm"], None]
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._on_alarm = on_alarm
        self._handle: TimerHandle | None = None
        self.at = inf
        self.users = 0

    def set(self, due: float, current_loop: AbstractEventLoop) -> None:
        """Fire at `due`, by the clock of the space. `current_loop` is the caller's loop."""
        self.at = due
        call_in_loop(self._loop, current_loop, self._start)

    def cancel(self) -> None:
        """Cancel the alarm. Call it in the alarm's own loop."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _start(self) -> None:
        # Runs in the alarm's own loop. `users` changes only there.
        self.cancel()
        if self.users and self.at != inf:
            self._handle = self._loop.call_later(max(0.0, self.at - self._clock()), self._fire)

    def _fire(self) -> None:
        self._handle = None
        self._on_alarm(self)


class WaitQueue:
    """The receivers that wait for one topic; the first has waited longest."""

    __slots__ = ("_alarms", "_clock", "_on_alarm", "_waiters")

    def __init__(self, clock: Callable[[], float], on_alarm: Callable[[Alarm], None]) -> None:
        self._clock = clock
        self._on_alarm = on_alarm
        # An OrderedDict, because a dict finds its first item slowly after many were removed from its front.
        self._waiters: OrderedDict[Waiter, None] = OrderedDict()
        self._alarms: dict[AbstractEventLoop, Alarm] = {}

    def __bool__(self) -> bool:
        return bool(self._alarms)

    def join(self, waiter: Waiter, due: float) -> None:
        """Add a waiter. `due` is the time when the topic's next message falls due, `inf` for never."""
        self._waiters[waiter] = None
        alarm = self._alarms.get(waiter.loop)
        if alarm is None:
            alarm = self._alarms[waiter.loop] = Alarm(waiter.loop, self._clock, self._on_alarm)
        alarm.users += 1
        if due < alarm.at:
            alarm.set(due, waiter.loop)

    def leave(self, waiter: Waiter) -> None:
        """Remove a waiter. Call it once for each `join`, in the waiter's own loop."""
        self._waiters.pop(waiter, None)
        alarm = self._alarms[waiter.loop]
        alarm.users -= 1
        if not alarm.users:
            alarm.cancel()
            del self._alarms[waiter.loop]

    def wake(self, messages: int, current_loop: AbstractEventLoop) -> None:
        """Wake enough receivers to take `messages` messages that became ready."""
        while messages > 0 and self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if call_in_loop(waiter.loop, current_loop, waiter.wake):
                waiter.woken = True
                messages -= waiter.limit

    def expect(self, due: float, current_loop: AbstractEventLoop) -> None:
        """Set every alarm that would fire after `due`, when a message falls due."""
        for alarm in self._alarms.values():
            if due < alarm.at:
                alarm.set(due, current_loop)


def call_in_loop(loop: AbstractEventLoop, current_loop: AbstractEventLoop, callback: Callable[[], None]) -> bool:
    """Call `callback` in `loop`: immediately if it is the current loop. Return False if `loop` is closed."""
    if loop is current_loop:
        callback()
        return True
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        return False
    return True
