"""Samples of the topics: the number of messages in each, now and in the last two minutes."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from brrr_core.backend import Queue, QueueStats
from brrr_core.errors import BrrrError

__all__ = ["Sampler", "Samples", "SamplingEndedError"]

INTERVAL_SECONDS: Final = 2.0
"""Seconds between two samples of all topics."""

PAUSE_FACTOR: Final = 20
"""A pause lasts at least this many times as long as the round before it, so sampling takes at most 5 % of the time."""

MAX_SAMPLES: Final = 60
"""The most samples of a topic: two minutes."""

ROUNDS_PER_LISTING: Final = 5
"""Rounds from one listing of the topics to the next."""

MAX_TOPICS: Final = 10_000
"""The most topics that are sampled. Further ones that the queue lists are left out."""

CONCURRENT_READS: Final = 16
"""Topics whose statistics are read at the same time."""


class SamplingEndedError(Exception):
    """The board was closed while a request waited for a sample."""


class Samples(NamedTuple):
    """The samples of a topic.

    Attributes:
        stats: Its messages in the last round.
        depths: The messages that are not settled, in each round, oldest first.
    """

    stats: QueueStats
    depths: Sequence[int]


class Sampler:
    """Samples all topics repeatedly, while `run` runs. All visitors share the samples.

    The topics are those that are given, and those that the queue has listed. A topic that is empty again stays.

    Args:
        queue: The queue.
        given: The names of topics.

    Attributes:
        samples: The samples of each topic.
        version: The number of rounds; it is 0 until the first round has ended.
        failure: Why the last round failed, or could not list the topics, so that the samples are old or incomplete.
    """

    def __init__(self, queue: Queue, given: Iterable[str]) -> None:
        self.samples: dict[str, Samples] = {}
        self.version = 0
        self.failure: BrrrError | None = None
        self._queue = queue
        self._names = dict.fromkeys(given)  # in order
        self._unlisted: BrrrError | None = None
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
                    self.failure = self._unlisted
                self.version = self._begun
                self._notify()
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(INTERVAL_SECONDS, (loop.time() - begin) * PAUSE_FACTOR)):
                        await self._wanted.wait()
        finally:
            self._ended = True
            self._notify()

    async def after(self, version: int) -> None:
        """Wait for a round later than `version`.

        Raises:
            SamplingEndedError: The board was closed.
        """
        while self.version <= version:
            if self._ended:
                raise SamplingEndedError
            await self._changed.wait()

    async def refresh(self) -> None:
        """Sample immediately, and wait for a round that began now or later: the queue has changed."""
        self._wanted.set()
        await self.after(self._begun)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _sample(self) -> None:
        if self._begun % ROUNDS_PER_LISTING == 1:
            await self._list()
        names = list(self._names)
        left = iter(names)
        found: dict[str, QueueStats] = {}

        async def read() -> None:
            for topic in left:  # all readers share the iterator
                found[topic] = await self._queue.stats(topic)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(CONCURRENT_READS, len(names))):
                group.create_task(read())
        samples: dict[str, Samples] = {}
        for topic, stats in found.items():
            before = self.samples.get(topic)
            depths: Sequence[int] = () if before is None else before.depths
            samples[topic] = Samples(stats, [*depths[1 - MAX_SAMPLES :], stats.ready + stats.leased + stats.delayed])
        self.samples = samples

    async def _list(self) -> None:
        if self._queue.inspector is None:
            return
        try:
            listed = await self._queue.inspector.topics()
        except BrrrError as error:  # the login may not list topics; those given by name can still be sampled
            self._unlisted = error
            return
        self._unlisted = None
        for name in listed:
            if len(self._names) < MAX_TOPICS:
                self._names.setdefault(name)


def _first(group: BaseExceptionGroup[BrrrError]) -> BrrrError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
