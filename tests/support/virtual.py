"""An event loop whose time is virtual: a wait of hours takes no time, and ends at its very instant."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Time(selectors.DefaultSelector):
    """Instead of sleeping until the next timer, moves the time there."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "everybody waits, and no timer is left to wake anybody"
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs in its own time. No threads: what comes from outside of the loop never comes."""

    def __init__(self) -> None:
        self.virtual = _Time()
        super().__init__(self.virtual)

    def time(self) -> float:
        return self.virtual.now

    @property
    def timers(self) -> int:
        """How many timers are set."""
        return sum(not handle.cancelled() for handle in self._scheduled)  # type: ignore[attr-defined]


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
