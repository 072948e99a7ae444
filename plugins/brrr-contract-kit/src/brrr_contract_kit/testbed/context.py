"""The context of a rule: backends on the target, unique names, seeded randomness, polling, and cleaning up."""

import os
from asyncio import CancelledError, Task, create_task, get_running_loop, sleep, timeout, wait
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Generic, Self, TypeVar

from brrr_contract_kit.target import Target
from brrr_contract_kit.testbed.checks import NotApplicableError, broken
from brrr_contract_kit.testbed.network import Network
from brrr_contract_kit.testbed.processes import Agent
from brrr_core.backend import Backend, Cache, Delivery, Key, Kind, Queue, Store, Swap
from brrr_core.errors import BrrrError

__all__ = [
    "CANCELLED",
    "IN_TIME",
    "POLL",
    "Context",
    "Ended",
    "NotApplicableError",
    "StalledError",
    "awaited",
    "error_of",
    "raised",
]

ResultT = TypeVar("ResultT")

POLL: Final = 0.01
MAX_TURNS: Final = 20_000
"""Turns of the loop after which an operation counts as waiting for something outside the process."""

MAX_ROUNDS: Final = 50
"""The most rounds in which the clean-up empties a topic."""

IN_TIME: Final = 0.9
"""The part of a lease or delay in which it has certainly not ended, whatever the resolution of the server's clock."""


class StalledError(Exception):
    """This process was stalled until a lease expired. The rule has no verdict and is run again."""


class CANCELLED:
    """The result of a cancelled operation."""


@dataclass(frozen=True, slots=True)
class Ended(Generic[ResultT]):
    """The end of an operation that a rule cancels.

    Attributes:
        result: Its result, or `CANCELLED` if the cancellation came first.
        turns: Turns of the loop before the cancellation.
    """

    result: ResultT | type[CANCELLED]
    turns: int


class Context:
    """The context of one run of a rule. Leaving `async with` closes its backends and cleans up its names."""

    def __init__(self, target: Target, seed: str) -> None:
        self.target = target
        self.random = Random(seed)  # noqa: S311 - repeatable randomness, not a secret
        self.prefix = f"brrr-kit-{Random().getrandbits(48):012x}"  # noqa: S311 - unseeded, so that two runs with one seed do not clash
        self.grace = target.grace
        self._stack = AsyncExitStack()
        self._count = 0
        self._topics: list[str] = []
        self._keys: list[Key] = []
        self._counters: list[str] = []
        self._held: list[tuple[Queue, Delivery]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            await self._clean()
        except Exception as error:
            # Do not hide the failure of the rule, and ignore a backend that refuses to clean up.
            if kind is None and not isinstance(error, BrrrError):
                raise
        finally:
            await self._stack.aclose()

    # -- backends ------------------------------------------------------------------------------------------------

    async def backend(self, *, short_lease: bool = False) -> Backend:
        """Return an open backend, which is closed when the rule ends."""
        return await self._stack.enter_async_context(self.target.backend(short_lease=short_lease))

    async def queue(self, *, short_lease: bool = False) -> Queue:
        """Return the queue of a new backend."""
        return (await self.backend(short_lease=short_lease)).queue

    async def store(self) -> Store:
        """Return the store of a new backend."""
        return (await self.backend()).store

    async def cache(self) -> Cache:
        """Return the cache of a new backend."""
        return (await self.backend()).cache

    async def agent(
        self,
        *,
        short_lease: bool = False,
        target: Target | None = None,
        opened: bool = True,
        forks: bool = False,
        shift: int = 0,
    ) -> Agent:
        """Return another process with the URL open, which is killed when the rule ends.

        Args:
            short_lease: Set its lease to that of the target.
            target: Another target whose URL it opens.
            opened: Whether it opens the backend. Otherwise it can only set it up.
            forks: Whether it forks processes that open the backend and kill themselves. It opens nothing itself.
            shift: Seconds by which its wall clock is ahead.
        """
        at, lease = target or self.target, self.target.lease if short_lease else None
        agent = Agent(at.address(), at.preload, lease, opened=opened, forks=forks, shift=shift)
        self._stack.push_async_callback(agent.close)
        await agent.start()
        return agent

    async def forking_agent(self) -> Agent:
        """Return another process that forks, with a short lease if it can be set.

        Raises:
            NotApplicableError: The system cannot fork.
        """
        if not hasattr(os, "fork"):
            raise NotApplicableError("this system cannot fork")
        return await self.agent(short_lease=self.target.takes_lease, forks=True)

    async def network(self) -> Network:
        """Return a network to the target, with relays that forward. It is closed when the rule ends.

        Raises:
            NotApplicableError: The backend has no server.
        """
        network = await self._stack.enter_async_context(Network(self.target))
        await network.listen()
        return network

    # -- names ---------------------------------------------------------------------------------------------------

    def topic(self, name: str = "") -> str:
        """Return a unique topic, which is cleaned up at the end."""
        self._count += 1
        topic = f"{self.prefix}-{self._count}{name}"
        return self.own_topic(topic)

    def own_topic(self, topic: str) -> str:
        """Register a topic of the caller for the clean-up, and return it."""
        self._topics.append(topic)
        return topic

    def key(self, kind: Kind = "value", name: str = "") -> Key:
        """Return a unique key, which is deleted at the end."""
        self._count += 1
        key = Key(kind, f"{self.prefix}-{self._count}{name}")
        self._keys.append(key)
        return key

    def own_key(self, key: Key) -> Key:
        """Register a key of the caller for the clean-up, and return it."""
        self._keys.append(key)
        return key

    def counter(self, name: str = "") -> str:
        """Return the name of a unique counter, which is set to 0 at the end."""
        self._count += 1
        return self.own_counter(f"brrr_count/{self.prefix}-{self._count}{name}")

    def own_counter(self, counter: str) -> str:
        """Register a counter of the caller for the clean-up, and return its name."""
        self._counters.append(counter)
        return counter

    # -- receiving -----------------------------------------------------------------------------------------------

    async def take(self, queue: Queue, topic: str, *, limit: int = 1, wait: float = 0) -> list[Delivery]:
        """Receive once; deliveries that are not settled by the end of the rule are acknowledged."""
        deliveries = await queue.receive(topic, limit=limit, wait=wait)
        self.hold(queue, deliveries)
        return deliveries

    def hold(self, queue: Queue, deliveries: Iterable[Delivery]) -> None:
        """Acknowledge deliveries at the end of the rule, if they are not settled by then."""
        self._held += [(queue, delivery) for delivery in deliveries]

    async def take_one(self, queue: Queue, topic: str, *, within: float | None = None) -> Delivery:
        """Receive one message within `within` seconds, by default `grace`, or fail the rule."""
        (delivery,) = await self.take_all(queue, topic, 1, within=within)
        return delivery

    async def take_all(
        self, queue: Queue, topic: str, count: int, *, within: float | None = None, ack: bool = False
    ) -> list[Delivery]:
        """Receive `count` messages within `within` seconds, by default `grace`, or fail the rule.

        With `ack` each is acknowledged immediately, since its lease may expire before the last one arrives.
        """
        within = self.grace if within is None else within
        loop = get_running_loop()
        deadline = loop.time() + within
        found: list[Delivery] = []
        while len(found) < count:
            left = deadline - loop.time()
            if left <= 0:
                broken(f"{count - len(found)} of {count} messages did not arrive within {within:g} s")
            came = await self.take(queue, topic, limit=count - len(found), wait=min(left, 0.5))
            if ack:
                await queue.ack(came)
            found += came
        return found

    async def none_left(self, queue: Queue, topic: str, what: str) -> None:
        """Check that the topic has no ready message; `what` says why."""
        deliveries = await self.take(queue, topic, limit=10)
        if deliveries:
            bodies = [delivery.body[:50] for delivery in deliveries]
            broken(f"{what}, but {len(deliveries)} were delivered: {bodies!r}")

    # -- time ----------------------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str, *, within: float | None = None) -> None:
        """Poll until the condition holds, for at most `within` seconds, by default `grace`, or fail the rule."""
        within = self.grace if within is None else within
        loop = get_running_loop()
        deadline = loop.time() + within
        while not await condition():
            if loop.time() >= deadline:
                broken(f"{what}: not true within {within:g} s")
            await sleep(POLL)

    @asynccontextmanager
    async def within(self, seconds: float, what: str) -> AsyncGenerator[None]:
        """Fail the rule if the block does not end within this many seconds."""
        scope = timeout(seconds)
        try:
            async with scope:
                yield
        except TimeoutError:
            if not scope.expired():
                raise
            broken(f"{what}: not within {seconds:g} s")

    def now(self) -> float:
        """Return the time of the loop, in seconds."""
        return get_running_loop().time()

    def in_time(self, queue: Queue, begun: float) -> None:
        """Check that a lease that began after `begun` cannot have expired; otherwise the rule has no verdict.

        Raises:
            StalledError: Nine tenths of a lease have passed.
        """
        if self.is_late(queue, begun):
            raise StalledError

    def is_late(self, queue: Queue, begun: float) -> bool:
        """Whether a lease that began after `begun` may have expired: nine tenths of it have passed."""
        return self.now() >= begun + IN_TIME * queue.lease

    # -- cancellation --------------------------------------------------------------------------------------------

    async def turns_of(self, operation: Callable[[], Awaitable[object]]) -> int:
        """Return the number of turns of the loop that an operation takes, up to a bound."""
        task = create_task(awaited(operation()))
        turns = 0
        while not task.done() and turns < MAX_TURNS:
            await sleep(0)
            turns += 1
        await task
        return turns

    async def cancelled(self, operation: Callable[[], Awaitable[ResultT]], turns: int) -> Ended[ResultT]:
        """Start an operation and cancel it after this many turns of the loop."""
        return await self.cancel(create_task(awaited(operation())), turns)

    async def cancel(self, task: Task[ResultT], turns: int) -> Ended[ResultT]:
        """Cancel a task after this many turns of the loop."""
        for _ in range(turns):
            if task.done():
                break
            await sleep(0)
        task.cancel()
        await wait({task}, timeout=self.grace)
        if not task.done():
            broken(f"a cancelled operation did not end within {self.grace:g} s")
        try:
            return Ended(await task, turns)
        except CancelledError:
            return Ended(CANCELLED, turns)

    def points(self, turns: int) -> Sequence[int]:
        """Return the turns at which to cancel an operation: each of the first, then some up to its last."""
        first, last = range(min(turns + 2, 12)), range(12, turns + 2)
        return [*first, *sorted(self.random.sample(last, min(len(last), 12)))]

    def few_points(self, turns: int) -> Sequence[int]:
        """Return fewer turns: the first six, then each about twice as late as the one before.

        So a part that takes half of the time is interrupted, even if the operation is faster than when it was measured.
        """
        found = [*range(min(turns + 2, 6))]
        while (later := int(found[-1] * self.random.uniform(1.5, 2)) + 1) <= turns:
            found.append(later)
        return found

    # -- cleaning up ---------------------------------------------------------------------------------------------

    async def _clean(self) -> None:
        if not (self._topics or self._keys or self._counters):
            return
        async with self.within(self.grace, "cleaning up"), self.target.backend() as backend:
            if backend.roles.queue is not None:
                await self._clean_queue(backend.queue)
            if self._keys and backend.roles.store is not None:
                found = await backend.store.read(self._keys)
                pairs = zip(self._keys, found, strict=True)
                await backend.store.swap([Swap(key, value, None) for key, value in pairs])
            if self._counters and backend.roles.cache is not None:
                counts = await backend.cache.increment(dict.fromkeys(self._counters, 0))
                await backend.cache.increment({name: -count for name, count in counts.items()})

    async def _clean_queue(self, queue: Queue) -> None:
        for holder in {id(each): each for each, _ in self._held}.values():
            await holder.ack([delivery for each, delivery in self._held if each is holder])
        for topic in self._topics:
            # Bounded, because `ack` or `drop` of a broken backend may remove nothing.
            for _ in range(MAX_ROUNDS):
                found = await queue.receive(topic, limit=1000, wait=0)
                await queue.ack(found)
                if not found and not await queue.drop(topic, limit=1000):
                    break


async def awaited(operation: Awaitable[ResultT]) -> ResultT:
    """Return the result of any awaitable: only a coroutine can become a task."""
    return await operation


async def raised(operation: Awaitable[Any]) -> BaseException | None:
    """Return the exception of an operation, None if it raises none."""
    try:
        await operation
    except Exception as error:  # noqa: BLE001 - the rule checks its type
        return error
    return None


def error_of(call: Callable[[], object]) -> BaseException | None:
    """Return the exception of a function, None if it raises none."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - the rule checks its type
        return error
    return None
