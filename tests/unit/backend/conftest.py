"""A clock that tests advance, and backends that use it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from itertools import count
from typing import Any

import pytest

from brrr_core.backend import BackendUrl, Duration
from brrr_core.backend.memory import MemoryBackend, MemoryOptions, forget
from tests.support.virtual import run_virtually


class FakeClock:
    """A clock that stands still until a test advances it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def backend(clock: FakeClock) -> AsyncIterator[MemoryBackend]:
    """An open `memory:` with a lease of 30 seconds and the fake clock."""
    async with MemoryBackend(BackendUrl("memory"), MemoryOptions(Duration(30)), clock=clock) as backend:
        yield backend


@pytest.fixture
def virtually() -> Callable[[Callable[[], Coroutine[Any, Any, None]]], None]:
    """Return a function that runs a coroutine in virtual time."""

    def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        run_virtually(main())

    return run


@pytest.fixture
def opened() -> Callable[..., MemoryBackend]:
    """Return a function that makes a backend with the clock of the running loop: `opened(name, lease=30)`."""

    def make(name: str = "", *, lease: float = 30) -> MemoryBackend:
        loop = asyncio.get_running_loop()
        return MemoryBackend(BackendUrl("memory", path=name), MemoryOptions(Duration(lease)), clock=loop.time)

    return make


_names = count()


@pytest.fixture
def name() -> Iterator[str]:
    """The name of a new shared space, which is forgotten after the test."""
    name = f"test-{next(_names)}"
    yield name
    forget(name)


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Return a function that lets other tasks run until a condition is true, for a limited number of turns."""

    async def poll(condition: Callable[[], bool]) -> None:
        for _ in range(1000):
            if condition():
                return
            await asyncio.sleep(0)
        pytest.fail("the condition was not true after 1,000 turns of the loop")

    return poll
