"""Time that tests move by hand, and a loop that never sleeps."""

import asyncio
import selectors
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from itertools import count
from typing import Any

import pytest

from brrr_core.backend import BackendUrl, Duration
from brrr_core.backend.memory import MemoryBackend, MemoryOptions, forget


class FakeClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class _Time(selectors.DefaultSelector):
    """Instead of sleeping until the next timer, moves the time there."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "everybody waits, and no timer is left to wake anybody"
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is virtual: a wait of hours takes no time, and ends at its very instant."""

    def __init__(self) -> None:
        self.virtual = _Time()
        super().__init__(self.virtual)

    def time(self) -> float:
        return self.virtual.now

    @property
    def timers(self) -> int:
        """How many timers are set."""
        return sum(not handle.cancelled() for handle in self._scheduled)  # type: ignore[attr-defined]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def backend(clock: FakeClock) -> AsyncIterator[MemoryBackend]:
    """An open `memory:` with a lease of 30 seconds of a clock that stands still."""
    async with MemoryBackend(BackendUrl("memory"), MemoryOptions(Duration(30)), clock=clock) as backend:
        yield backend


@pytest.fixture
def virtually() -> Callable[[Callable[[], Coroutine[Any, Any, None]]], None]:
    """Runs a test's coroutine in virtual time."""

    def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(main())

    return run


@pytest.fixture
def opened() -> Callable[..., MemoryBackend]:
    """A backend by the time of the running loop: `opened(name, lease=30)`."""

    def make(name: str = "", *, lease: float = 30) -> MemoryBackend:
        loop = asyncio.get_running_loop()
        return MemoryBackend(BackendUrl("memory", path=name), MemoryOptions(Duration(lease)), clock=loop.time)

    return make


_names = count()


@pytest.fixture
def name() -> Iterator[str]:
    """The name of a shared space that is new, and forgotten afterwards."""
    name = f"test-{next(_names)}"
    yield name
    forget(name)


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Lets other tasks run until a condition holds, up to a bound."""

    async def poll(condition: Callable[[], bool]) -> None:
        for _ in range(1000):
            if condition():
                return
            await asyncio.sleep(0)
        pytest.fail("the condition did not come true in 1,000 turns of the loop")

    return poll
