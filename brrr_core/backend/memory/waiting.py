"""Receivers that wait for a topic's messages, in any number of event loops, and what wakes them.

All of it is called with the lock of the space held, unless a docstring says otherwise.

Nobody is woken in vain, and no message waits beside an idle receiver: while messages are ready, the receivers that were
woken and have not looked yet could take them all, or nobody is left to wake.
"""

from asyncio import AbstractEventLoop, TimerHandle
from collections import OrderedDict
from collections.abc import Callable
from math import inf

__all__ = ["Line", "Waiter"]


class Waiter:
    """One blocked `receive`: awaits `future`, and takes up to `limit` messages when that is done."""

    __slots__ = ("future", "limit", "loop", "timer", "woken")

    def __init__(self, loop: AbstractEventLoop, limit: int) -> None:
        self.loop = loop
        self.limit = limit
        self.future = loop.create_future()
        self.timer: TimerHandle | None = None
        self.woken = False

    def wake(self) -> None:
        """End the wait. Runs on the waiter's own loop, with or without the lock."""
        if not self.future.done():
            self.future.set_result(None)


class Alarm:
    """Rings on one loop when the topic's next message falls due, while receivers of that loop wait for the topic.

    Each loop has its own, so that a loop that hangs delays nobody but itself. `ring` is called without the lock.
    """

    __slots__ = ("_clock", "_handle", "_loop", "_ring", "at", "users")

    def __init__(self, loop: AbstractEventLoop, clock: Callable[[], float], ring: Callable[["Alarm"], None]) -> None:
        self._loop = loop
        self._clock = clock
        self._ring = ring
        self._handle: TimerHandle | None = None
        self.at = inf
        self.users = 0

    def set(self, due: float, here: AbstractEventLoop) -> None:
        """Ring at `due` of the space's clock, from now on. `here` is the caller's loop."""
        self.at = due
        call(self._loop, here, self._start)

    def cancel(self) -> None:
        """Do not ring. Called on the alarm's own loop."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _start(self) -> None:
        # Runs on the alarm's own loop, where alone `users` changes.
        self.cancel()
        if self.users and self.at != inf:
            self._handle = self._loop.call_later(max(0.0, self.at - self._clock()), self._fire)

    def _fire(self) -> None:
        self._handle = None
        self._ring(self)


class Line:
    """The receivers that wait for one topic, the longest first."""

    __slots__ = ("_alarms", "_clock", "_ring", "_waiters")

    def __init__(self, clock: Callable[[], float], ring: Callable[[Alarm], None]) -> None:
        self._clock = clock
        self._ring = ring
        # An OrderedDict, because a plain dict is slow to find its first item after many were taken from its front.
        self._waiters: OrderedDict[Waiter, None] = OrderedDict()
        self._alarms: dict[AbstractEventLoop, Alarm] = {}

    def __bool__(self) -> bool:
        return bool(self._alarms)

    def join(self, waiter: Waiter, due: float) -> None:
        """Wait. `due` is when the topic's next message falls due, `inf` for never."""
        self._waiters[waiter] = None
        alarm = self._alarms.get(waiter.loop)
        if alarm is None:
            alarm = self._alarms[waiter.loop] = Alarm(waiter.loop, self._clock, self._ring)
        alarm.users += 1
        if due < alarm.at:
            alarm.set(due, waiter.loop)

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer. Called once for each `join`, on the waiter's own loop."""
        self._waiters.pop(waiter, None)
        alarm = self._alarms[waiter.loop]
        alarm.users -= 1
        if not alarm.users:
            alarm.cancel()
            del self._alarms[waiter.loop]

    def wake(self, messages: int, here: AbstractEventLoop) -> None:
        """Wake as many receivers as it takes to take `messages` messages that became ready."""
        while messages > 0 and self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if call(waiter.loop, here, waiter.wake):
                waiter.woken = True
                messages -= waiter.limit

    def expect(self, due: float, here: AbstractEventLoop) -> None:
        """A message will fall due at `due`: no alarm may ring later."""
        for alarm in self._alarms.values():
            if due < alarm.at:
                alarm.set(due, here)


def call(loop: AbstractEventLoop, here: AbstractEventLoop, callback: Callable[[], None]) -> bool:
    """Call on `loop`, from `here`: at once if they are one. False if `loop` was closed under its receivers."""
    if loop is here:
        callback()
        return True
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        return False
    return True
