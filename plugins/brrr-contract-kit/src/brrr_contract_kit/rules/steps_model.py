"""Rule STEPS-MODEL: random histories of steps and simple operations behave like a model."""

from random import Random
from typing import Final

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.checks import equal
from brrr_contract_kit.testbed.context import Context
from brrr_contract_kit.testbed.model import Model
from brrr_contract_kit.testbed.stepped import SteppedBackend, records_of, schedule_message, stepped_backend
from brrr_core.backend import Count, Delivery, Key, Kind, Message, Reading, Received, Step, Swap, keys_of

ROUNDS: Final = 6
ACTIONS: Final = 60
READINGS: Final = (Reading("value"), Reading("pending_returns"), Reading("call", "of/", "root_id"))
KINDS: Final[tuple[Kind, ...]] = ("value", "pending_returns")
VALUES: Final = (None, b"", b"a", b"A", b"a\0")


@rule("STEPS-MODEL-01", limit=120)
async def behaves_like_a_model(ctx: Context) -> None:
    """Every sequence of steps and simple operations has the results and effects that the contract describes.

    Why: The engine mixes them in ways that no single rule lists.

    Test: Six seeded histories of 60 random operations: commits of up to four steps with every part, and all operations
    of the roles. Each result is compared with a model of the backend, and so is the state at the end.
    """
    at = await stepped_backend(ctx)
    for _ in range(ROUNDS):
        history = _History(ctx, at)
        for _ in range(ACTIONS):
            await history.act()
        await history.end()


class _History:
    """Random operations on a few keys, counters and topics, and the model that follows them."""

    def __init__(self, ctx: Context, at: SteppedBackend) -> None:
        self.ctx = ctx
        self.at = at
        self.dice: Random = ctx.random
        self.model = Model()
        self.hashes = [ctx.key().call_hash for _ in range(2)]
        self.keys = [ctx.own_key(Key(kind, each)) for kind in KINDS for each in self.hashes]
        self.counters = [ctx.counter() for _ in range(2)]
        self.topics = [ctx.topic() for _ in range(2)]
        self.deliveries: list[Delivery] = []
        self.bodies = 0

    async def act(self) -> None:
        """Perform one operation, and compare its results."""
        act = self.dice.choice(
            (self.commit, self.commit, self.commit, self.receive, self.receive, self.write, self.settle)
        )
        await act()

    async def commit(self) -> None:
        """Commit steps."""
        steps = [self._step() for _ in range(self.dice.randint(1, 4))]
        readings = READINGS[: self.dice.randint(0, 3)]
        done = await self.at.commit(*steps, readings=readings)
        self.model.commit(steps, done, readings)
        self.deliveries += [each.delivery for leased in done for each in leased or ()]

    async def receive(self) -> None:
        """Receive from the queue or from the steps."""
        topic, limit = self.dice.choice(self.topics), self.dice.randint(1, 3)
        if self.dice.random() < 0.3:
            found = await self.ctx.take(self.at.queue, topic, limit=limit, wait=self._wait(topic))
            received: list[Received] = []
        else:
            received = await self.at.receive(topic, limit=limit, wait=self._wait(topic), readings=READINGS)
            found = [each.delivery for each in received]
        self.model.receive(topic, found, limit)
        self.deliveries += found
        for each in received:
            wanted = [self.model.records.get(key) for key in keys_of(each.delivery.body, READINGS) or ()]
            equal(records_of(each), wanted, "the records of a received message")

    def _wait(self, topic: str) -> float:
        """Wait for a message that is ready: a slow server may need a moment."""
        return self.ctx.grace if self.model.ready[topic] else 0

    async def write(self) -> None:
        """Write, swap, increment, or put by the simple operations."""
        key, new, topic = self.dice.choice(self.keys), self.dice.choice(VALUES), self.dice.choice(self.topics)
        match self.dice.randrange(4):
            case 0:
                await self.at.store.write([(key, new or b"")])
                self.model.set(key, new or b"")
            case 1:
                expected = self._guess(key)
                done = await self.at.store.swap([Swap(key, expected, new)])
                equal(done, [self.model.swap(key, expected, new)], "the result of a swap")
            case 2:
                counter, amount = self.dice.choice(self.counters), self.dice.randint(-3, 3)
                self.model.counters[counter] += amount
                found = await self.at.cache.increment({counter: amount})
                equal(found, {counter: self.model.counters[counter]}, "a counter after an increment")
            case _:
                message = Message(topic, self._body())
                await self.at.queue.put(topic, [message.body])
                self.model.put(message)

    async def settle(self) -> None:
        """Acknowledge, release, dead-letter, extend or redrive by the simple operations."""
        topic, some = self.dice.choice(self.topics), self._some_deliveries()
        match self.dice.randrange(5):
            case 0:
                await self.at.queue.ack(some)
                for each in some:
                    self.model.settle(each)
            case 1:
                await self.at.queue.release(some)
                for each in some:
                    self.model.release(each)
            case 2:
                for each in some:
                    await self.at.queue.bury(each, "why")
                    self.model.bury(each)
            case 3:
                await self.at.queue.extend(some)
            case _:
                equal(
                    await self.at.queue.redrive(topic, limit=1000), self.model.redrive(topic), "the redriven messages"
                )

    async def end(self) -> None:
        """Release all deliveries, and compare the state."""
        equal(await self.at.store.read(self.keys), [self.model.records.get(key) for key in self.keys], "the records")
        equal(
            await self.at.counts(*self.counters), [self.model.counters[each] for each in self.counters], "the counters"
        )
        await self.at.queue.release(self.deliveries)
        for each in self.deliveries:
            self.model.release(each)
        for topic in self.topics:
            wanted = {body: attempt + 1 for body, attempt in self.model.ready[topic].items()}
            found = await self.ctx.take_all(self.at.queue, topic, len(wanted), ack=True)
            equal({each.body: each.attempt for each in found}, wanted, "body and attempt of the messages at the end")
            await self.ctx.none_left(self.at.queue, topic, "the model has no other message")
            letters = await self.at.queue.dead(topic, limit=1000)
            equal(sorted(each.body for each in letters), sorted(self.model.dead[topic]), "the dead letters at the end")

    def _step(self) -> Step:
        def some() -> int:
            return self.dice.choice((0, 0, 1, 2))

        def keys() -> list[Key]:
            return self.dice.sample(self.keys, some())

        def value() -> bytes:
            return self.dice.choice(VALUES) or b""

        counts = [
            Count(each, self.dice.randint(1, 3), self.dice.randint(0, 40))
            for each in self.dice.sample(self.counters, some())
        ]
        messages = [
            Message(self.dice.choice(self.topics), self._body(), leased=self.dice.random() < 0.4) for _ in range(some())
        ]
        return Step(
            [(key, self._guess(key)) for key in keys()],
            counts,
            [(key, value()) for key in keys()],
            messages,
            [(key, self.dice.choice(VALUES)) for key in keys()],
            self._some_deliveries()[: some()],
        )

    def _guess(self, key: Key) -> bytes | None:
        """Return the record as it is, most often."""
        return self.model.records.get(key) if self.dice.random() < 0.8 else self.dice.choice(VALUES)

    def _body(self) -> bytes:
        self.bodies += 1
        return schedule_message(f"root-{self.bodies}", self.dice.choice(self.hashes))

    def _some_deliveries(self) -> list[Delivery]:
        recent = self.deliveries[-8:]
        return self.dice.sample(recent, min(len(recent), self.dice.randint(1, 3)))
