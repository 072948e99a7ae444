"""What a rule works with: backends on the target, names of its own, seeded chance, polling, and cleaning up."""

from asyncio import CancelledError, Task, create_task, get_running_loop, sleep, timeout, wait
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Generic, Self, TypeVar

from brrr_core.backend import Backend, Cache, Delivery, Key, Kind, Queue, Store, Swap
from brrr_core.contract.checks import broken
from brrr_core.contract.processes import Agent
from brrr_core.contract.target import Target
from brrr_core.errors import BrrrError

__all__ = ["IN_TIME", "NOTHING", "POLL", "Context", "Ended", "NotApplicableError", "StalledError", "raised"]

ResultT = TypeVar("ResultT")

POLL: Final = 0.01
MOST_TURNS: Final = 20_000
"""Turns of the loop after which an operation counts as one that waits for something outside."""


MOST_ROUNDS: Final = 50

IN_TIME: Final = 0.9
"""The part of a lease, or a delay, in which it is sure to last, whatever the server's clock."""


class NotApplicableError(Exception):
    """The rule does not apply to this backend; the text says why."""


class StalledError(Exception):
    """This process was not run for so long that a lease ended meanwhile: nothing can be said, and the rule is rerun."""


class NOTHING:
    """Stands for the result of an operation that was cancelled."""


@dataclass(frozen=True, slots=True)
class Ended(Generic[ResultT]):
    """How an operation that was to be cancelled ended.

    Attributes:
        result: What it returned, `NOTHING` where the cancellation came first.
        turns: After how many turns of the loop it was cancelled.
    """

    result: ResultT | type[NOTHING]
    turns: int


class Context:
    """What one run of one rule works with. Used as `async with`, which closes and cleans up all that it gave."""

    def __init__(self, target: Target, seed: str) -> None:
        self.target = target
        self.random = Random(seed)  # noqa: S311 - chance that can be repeated, not a secret
        self.prefix = f"brrr-kit-{Random().getrandbits(48):012x}"  # noqa: S311 - unique, and the same seed twice must not clash
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
            # A rule that failed has said what is wrong, and a backend that refuses is not asked to be tidy.
            if kind is None and not isinstance(error, BrrrError):
                raise
        finally:
            await self._stack.aclose()

    # -- backends ------------------------------------------------------------------------------------------------

    async def backend(self, *, short_lease: bool = False) -> Backend:
        """An open backend, closed when the rule ends."""
        return await self._stack.enter_async_context(self.target.backend(short_lease=short_lease))

    async def queue(self, *, short_lease: bool = False) -> Queue:
        """The queue of a new backend."""
        return (await self.backend(short_lease=short_lease)).queue

    async def store(self) -> Store:
        """The store of a new backend."""
        return (await self.backend()).store

    async def cache(self) -> Cache:
        """The cache of a new backend."""
        return (await self.backend()).cache

    async def agent(self, *, short_lease: bool = False) -> Agent:
        """Another process that has the URL open, killed when the rule ends."""
        agent = Agent(self.target.address(), self.target.preload, self.target.lease if short_lease else None)
        self._stack.push_async_callback(agent.close)
        await agent.start()
        return agent

    # -- names ---------------------------------------------------------------------------------------------------

    def topic(self, name: str = "") -> str:
        """A topic that nobody else uses; cleaned up."""
        self._count += 1
        topic = f"{self.prefix}-{self._count}{name}"
        return self.own_topic(topic)

    def own_topic(self, topic: str) -> str:
        """A topic whose name is the caller's; cleaned up."""
        self._topics.append(topic)
        return topic

    def key(self, kind: Kind = "value", name: str = "") -> Key:
        """A key that nobody else uses; deleted at the end."""
        self._count += 1
        key = Key(kind, f"{self.prefix}-{self._count}{name}")
        self._keys.append(key)
        return key

    def own_key(self, key: Key) -> Key:
        """A key of the caller's; deleted at the end."""
        self._keys.append(key)
        return key

    def counter(self, name: str = "") -> str:
        """A counter that nobody else uses; set back to 0 at the end."""
        self._count += 1
        return self.own_counter(f"brrr_count/{self.prefix}-{self._count}{name}")

    def own_counter(self, counter: str) -> str:
        """A counter whose name is the caller's; set back to 0 at the end."""
        self._counters.append(counter)
        return counter

    # -- receiving -----------------------------------------------------------------------------------------------

    async def take(self, queue: Queue, topic: str, *, limit: int = 1, wait: float = 0) -> list[Delivery]:
        """Receive once; what is still held when the rule ends is acked."""
        deliveries = await queue.receive(topic, limit=limit, wait=wait)
        self._held += [(queue, delivery) for delivery in deliveries]
        return deliveries

    async def take_one(self, queue: Queue, topic: str, *, within: float | None = None) -> Delivery:
        """Receive one message, which must come within so many seconds, `grace` unless given."""
        (delivery,) = await self.take_all(queue, topic, 1, within=within)
        return delivery

    async def take_all(
        self, queue: Queue, topic: str, count: int, *, within: float | None = None, ack: bool = False
    ) -> list[Delivery]:
        """Receive until `count` messages came, which must happen within so many seconds, `grace` unless given.

        With `ack` each is acked as it comes: its lease may run out while the others are waited for.
        """
        within = self.grace if within is None else within
        loop = get_running_loop()
        deadline = loop.time() + within
        found: list[Delivery] = []
        while len(found) < count:
            left = deadline - loop.time()
            if left <= 0:
                broken(f"{count - len(found)} of {count} messages did not come within {within:g} s")
            came = await self.take(queue, topic, limit=count - len(found), wait=min(left, 0.5))
            if ack:
                await queue.ack(came)
            found += came
        return found

    async def none_left(self, queue: Queue, topic: str, what: str) -> None:
        """The topic must have nothing to give now."""
        deliveries = await self.take(queue, topic, limit=10)
        if deliveries:
            broken(f"{what}, and {len(deliveries)} came: {[delivery.body[:50] for delivery in deliveries]!r}")

    # -- time ----------------------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str, *, within: float | None = None) -> None:
        """Poll until the condition holds, which must happen within so many seconds, `grace` unless given."""
        within = self.grace if within is None else within
        loop = get_running_loop()
        deadline = loop.time() + within
        while not await condition():
            if loop.time() >= deadline:
                broken(f"{what}: not so within {within:g} s")
            await sleep(POLL)

    @asynccontextmanager
    async def within(self, seconds: float, what: str) -> AsyncGenerator[None]:
        """What is awaited inside must end within so many seconds."""
        scope = timeout(seconds)
        try:
            async with scope:
                yield
        except TimeoutError:
            if not scope.expired():
                raise
            broken(f"{what}: not within {seconds:g} s")

    def now(self) -> float:
        """The loop's time, in seconds."""
        return get_running_loop().time()

    def in_time(self, queue: Queue, begun: float) -> None:
        """What was received after `begun` must still be leased; otherwise nothing can be said.

        Raises:
            StalledError: Nine tenths of a lease have passed.
        """
        if self.now() >= begun + IN_TIME * queue.lease:
            raise StalledError

    # -- cancellation --------------------------------------------------------------------------------------------

    async def turns_of(self, operation: Callable[[], Awaitable[object]]) -> int:
        """How many turns of the loop an operation takes, up to a bound."""
        task = create_task(_awaited(operation()))
        turns = 0
        while not task.done() and turns < MOST_TURNS:
            await sleep(0)
            turns += 1
        await task
        return turns

    async def cancelled(self, operation: Callable[[], Awaitable[ResultT]], turns: int) -> Ended[ResultT]:
        """Start an operation, and cancel it after so many turns of the loop."""
        return await self.cancel(create_task(_awaited(operation())), turns)

    async def cancel(self, task: Task[ResultT], turns: int) -> Ended[ResultT]:
        """Cancel a task after so many turns of the loop."""
        for _ in range(turns):
            if task.done():
                break
            await sleep(0)
        task.cancel()
        await wait({task}, timeout=self.grace)
        if not task.done():
            broken(f"an operation that was cancelled did not end within {self.grace:g} s")
        try:
            return Ended(await task, turns)
        except CancelledError:
            return Ended(NOTHING, turns)

    def points(self, turns: int) -> Sequence[int]:
        """The turns to cancel at, for an operation that takes so many: each of the first, then spread to the end."""
        first, last = range(min(turns + 2, 12)), range(12, turns + 2)
        return [*first, *sorted(self.random.sample(last, min(len(last), 12)))]

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
            # Bounded, for a backend whose `ack` or `drop` removes nothing.
            for _ in range(MOST_ROUNDS):
                found = await queue.receive(topic, limit=1000, wait=0)
                await queue.ack(found)
                if not found and not await queue.drop(topic, limit=1000):
                    break


async def _awaited(operation: Awaitable[ResultT]) -> ResultT:
    return await operation


async def raised(operation: Awaitable[Any]) -> BaseException | None:
    """What an operation raises, None if it raises nothing."""
    try:
        await operation
    except Exception as error:  # noqa: BLE001 - which one it is, the rule looks at
        return error
    return None
