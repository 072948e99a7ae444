"""Samples of the topics: how many messages each holds, now and in the last minutes."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final, NamedTuple

from brrr_core.backend import Queue, QueueStats
from brrr_core.errors import BrrrError

__all__ = ["Sample", "Sampler", "SamplingEndedError"]

INTERVAL: Final = 2.0
"""Seconds between two samples of all topics."""

SHARE: Final = 20
"""A pause is at least this many times as long as the round before it, so that rounds take a twentieth of the time."""

KEPT: Final = 90
"""The most samples of a topic: three minutes."""

AT_ONCE: Final = 16
"""Topics whose statistics are read at the same time."""


class SamplingEndedError(Exception):
    """The board was left while a request waited for a sample."""


class Sample(NamedTuple):
    """The messages of a topic at one moment, in unix seconds."""

    at: float
    stats: QueueStats

    @property
    def depth(self) -> int:
        """The messages that are not settled."""
        return self.stats.ready + self.stats.leased + self.stats.delayed


class Sampler:
    """Samples all topics again and again, while `run` runs. All visitors share the samples.

    Attributes:
        samples: The samples of each topic, oldest first.
        version: The number of rounds; it is 0 until the first round has ended.
        failure: Why the last round failed, so that the samples are old.
    """

    def __init__(self, queue: Queue, names: Callable[[], Awaitable[Iterable[str]]]) -> None:
        self.samples: dict[str, deque[Sample]] = {}
        self.version = 0
        self.failure: BrrrError | None = None
        self._queue = queue
        self._names = names
        self._begun = 0
        self._ended = False
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Sample until cancelled. A failure of the queue is kept for the pages, and the next round tries again."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._wanted.clear()
                self._begun += 1
                begin = loop.time()
                try:
                    await self._sample()
                except* BrrrError as group:
                    self.failure = _first(group)
                else:
                    self.failure = None
                self.version = self._begun
                self._tell()
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(INTERVAL, (loop.time() - begin) * SHARE)):
                        await self._wanted.wait()
        finally:
            self._ended = True
            self._tell()

    async def after(self, version: int) -> None:
        """Wait for a round later than `version`.

        Raises:
            SamplingEndedError: There will be none.
        """
        while self.version <= version:
            if self._ended:
                raise SamplingEndedError
            await self._changed.wait()

    async def refresh(self) -> None:
        """Sample at once, and wait for a round that began now or later: the queue has changed."""
        self._wanted.set()
        await self.after(self._begun)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _sample(self) -> None:
        names = list(dict.fromkeys(await self._names()))
        left = iter(names)
        found: dict[str, QueueStats] = {}

        async def read() -> None:
            for topic in left:  # all readers share the iterator
                found[topic] = await self._queue.stats(topic)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(names))):
                group.create_task(read())
        at = time.time()
        samples: dict[str, deque[Sample]] = {}
        for topic in names:
            ring = self.samples.get(topic) or deque[Sample](maxlen=KEPT)
            ring.append(Sample(at, found[topic]))
            samples[topic] = ring
        self.samples = samples


def _first(group: BaseExceptionGroup[BrrrError]) -> BrrrError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
