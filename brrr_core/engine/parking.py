"""Parked runs: handlers that deferred, and stay suspended for a short time in case their wake-up arrives here.

A parked run holds no message and no lease. If its wake-up comes to this worker in time, the handler continues at its
`await`. Otherwise it is aborted, and the call runs again from its start, as after a crash.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from brrr_core.engine.calls import HeldDelivery
from brrr_core.engine.run import Run

__all__ = ["ParkedRun", "Parking"]


class ParkedRun:
    """A run that waits for its wake-up.

    Attributes:
        run: The run.
        held: The delivery that it deferred. A wake-up replaces its content.
        task: The task in which the handler is suspended.
        until: When it is aborted, by the clock of the event loop.
    """

    __slots__ = ("held", "run", "task", "until", "woken")

    def __init__(
        self, run: Run, held: HeldDelivery, task: "asyncio.Task[Any]", until: float, woken: "asyncio.Future[bool]"
    ) -> None:
        self.run = run
        self.held = held
        self.task = task
        self.until = until
        self.woken = woken


class Parking:
    """The parked runs of one worker, by root id and call hash.

    Args:
        limit: The most parked runs. If there are more, the oldest is aborted.
        seconds: The most seconds that a run stays parked; 0 parks none.
        useful: Returns whether a wake-up that comes back to this worker would be received soon.
        leave: Called with the task of a run that was parked.
        enter: Called with the task of a run that continues, and with its new delivery.
    """

    def __init__(
        self,
        limit: int,
        seconds: float,
        *,
        useful: Callable[[], bool],
        leave: "Callable[[asyncio.Task[Any]], None]",
        enter: "Callable[[asyncio.Task[Any], HeldDelivery], None]",
    ) -> None:
        self._limit = limit
        self._seconds = seconds
        self._useful = useful
        self._leave = leave
        self._enter = enter
        self._loop = asyncio.get_running_loop()
        self._runs: OrderedDict[tuple[str, str], ParkedRun] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def open(self) -> bool:
        """Whether runs may be parked now."""
        return self._seconds > 0 and self._useful()

    @property
    def used(self) -> bool:
        """Whether a run is parked."""
        return bool(self._runs)

    async def wait(self, run: Run, held: HeldDelivery) -> bool:
        """Wait in the task of a handler for the wake-up of its call. False if the run must be aborted instead.

        Raises:
            CancelledError: The handler was cancelled after its wake-up had come. It continues with its new delivery.
        """
        task = asyncio.current_task()
        if task is None or not self.open:  # it was closed during the deferral
            return False
        parked = ParkedRun(run, held, task, self._loop.time() + self._seconds, self._loop.create_future())
        key = (run.root_id, run.call.call_hash)
        if key in self._runs:  # a message of the call was delivered twice
            self.abort(self._runs[key])
        self._runs[key] = parked
        if self._timer is None:  # one for all: most runs continue before it is due
            self._timer = self._loop.call_at(parked.until, self._abort_late)
        self._leave(task)
        if len(self._runs) > self._limit:
            self.abort(next(iter(self._runs.values())))
        try:
            return await parked.woken
        except asyncio.CancelledError:
            if parked.woken.done() and not parked.woken.cancelled() and parked.woken.result():
                raise
            return False  # a timeout or a task group of the handler cancelled it without a delivery
        finally:
            self._remove(parked)

    def find(self, root_id: str, call_hash: str) -> ParkedRun | None:
        """Return the parked run of a call under this root, if there is one."""
        return self._runs.get((root_id, call_hash))

    def resume(self, parked: ParkedRun, held: HeldDelivery) -> None:
        """Let a parked run continue with a new delivery."""
        parked.held.take_over(held)
        self._remove(parked)
        self._enter(parked.task, parked.held)
        parked.woken.set_result(True)

    def abort(self, parked: ParkedRun) -> None:
        """Abort a parked run. Its handler notices that later."""
        self._remove(parked)
        if not parked.woken.done():
            parked.woken.set_result(False)

    def close(self) -> None:
        """Abort all parked runs, and park no more."""
        self._seconds = 0
        for parked in list(self._runs.values()):
            self.abort(parked)
        if self._timer is not None:
            self._timer.cancel()

    def _abort_late(self) -> None:
        """Abort the runs whose time is over. They are in the order in which they were parked."""
        self._timer = None
        now = self._loop.time()
        for parked in list(self._runs.values()):
            if parked.until > now:
                self._timer = self._loop.call_at(parked.until, self._abort_late)
                return
            self.abort(parked)

    def _remove(self, parked: ParkedRun) -> None:
        key = (parked.run.root_id, parked.run.call.call_hash)
        if self._runs.get(key) is parked:
            del self._runs[key]
