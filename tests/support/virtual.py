"""An event loop with virtual time: a wait of hours takes no time, and ends at the exact instant."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Time(selectors.DefaultSelector):
    """Advances the time to the next timer instead of sleeping."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "all tasks wait, and no timer is set"
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs in virtual time. Do not use threads: the loop does not notice events from outside."""

    def __init__(self) -> None:
        self.virtual = _Time()
        super().__init__(self.virtual)

    def time(self) -> float:
        return self.virtual.now

    @property
    def timers(self) -> int:
        """Number of active timers."""
        return sum(not handle.cancelled() for handle in self._scheduled)  # type: ignore[attr-defined]


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time until it ends."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
