"""The memory queue agrees with a model of the contract, in any history that hypothesis generates."""

import asyncio
from dataclasses import dataclass
from itertools import count
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from brrr_core.backend import BackendUrl, Delivery, Duration, QueueStats
from brrr_core.backend.memory import MemoryBackend, MemoryOptions, forget
from brrr_core.backend.memory import topic as memory_topic

TOPICS = ("t", "u")
LEASES = (10.0, 4.0)

topics = st.sampled_from(TOPICS)
backend_indices = st.sampled_from(range(len(LEASES)))
times = st.sampled_from([0, 1, 2.5, 4, 6, 10])


@dataclass(eq=False)
class Modelled:
    """A message in the model. `until` is the end of its delay or lease."""

    topic: str
    body: bytes
    attempt: int = 0
    state: str = "ready"
    until: float = 0


class QueueHistory(RuleBasedStateMachine):
    """Two backends with different leases on one space, and a list of the messages that they must hold."""

    def __init__(self) -> None:
        super().__init__()
        # Histories are short, so heaps are swept early to have the sweep tested.
        self.sweep_margin, memory_topic.SWEEP_MARGIN = memory_topic.SWEEP_MARGIN, 1
        self.now = 0.0
        self.numbers = count()
        self.messages: list[Modelled] = []
        self.dead_letters: dict[str, list[Modelled]] = {topic: [] for topic in TOPICS}
        self.deliveries: list[tuple[Delivery, Modelled, int]] = []
        self.runner = asyncio.Runner()
        self.name = f"history-{id(self)}"
        self.backends = [
            MemoryBackend(BackendUrl("memory", path=self.name), MemoryOptions(Duration(lease)), clock=self.time)
            for lease in LEASES
        ]
        for backend in self.backends:
            self.run(backend.open())

    def time(self) -> float:
        return self.now

    def run(self, operation: Any) -> Any:
        return self.runner.run(operation)

    def teardown(self) -> None:
        for backend in self.backends:
            self.run(backend.close())
        self.runner.close()
        forget(self.name)
        memory_topic.SWEEP_MARGIN = self.sweep_margin

    def live(self, index: int) -> Modelled | None:
        """Return the message of a receipt, or None if its lease has ended."""
        _, message, attempt = self.deliveries[index]
        return message if message.state == "leased" and message.attempt == attempt else None

    @rule(topic=topics, number=st.integers(0, 4), delay=times, i=backend_indices)
    def put(self, topic: str, number: int, delay: float, i: int) -> None:
        bodies = [b"%d" % next(self.numbers) for _ in range(number)]
        self.run(self.backends[i].queue.put(topic, bodies, delay=delay))
        for body in bodies:
            self.messages.append(Modelled(topic, body))
            self.make_ready(self.messages[-1], delay)

    def make_ready(self, message: Modelled, delay: float) -> None:
        message.state, message.until = ("delayed", self.now + delay) if delay else ("ready", 0)

    @rule(topic=topics, limit=st.integers(1, 4), i=backend_indices)
    def receive(self, topic: str, limit: int, i: int) -> None:
        ready = {m.body: m for m in self.messages if m.topic == topic and m.state == "ready"}
        deliveries = self.run(self.backends[i].queue.receive(topic, limit=limit, wait=0))
        assert len(deliveries) == min(limit, len(ready))
        for delivery in deliveries:
            message = ready.pop(delivery.body)
            message.attempt += 1
            message.state, message.until = "leased", self.now + LEASES[i]
            assert (delivery.topic, delivery.attempt) == (topic, message.attempt)
            self.deliveries.append((delivery, message, message.attempt))

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data(), how=st.sampled_from(["ack", "release", "extend", "bury"]), delay=times, i=backend_indices)
    def settle(self, data: Any, how: str, delay: float, i: int) -> None:
        indices = data.draw(st.lists(st.integers(0, len(self.deliveries) - 1), max_size=4))
        queue = self.backends[i].queue
        deliveries = [self.deliveries[index][0] for index in indices]
        match how:
            case "bury":
                for delivery in deliveries:
                    self.run(queue.bury(delivery, "why"))
            case "release":
                self.run(queue.release(deliveries, delay=delay))
            case _:
                self.run(getattr(queue, how)(deliveries))
        for index in indices:
            message = self.live(index)
            if message is None:
                continue
            if how == "extend":
                message.until = self.now + LEASES[i]
            elif how == "release":
                self.make_ready(message, delay)
            else:
                message.state = "gone"
                if how == "bury":
                    self.dead_letters[message.topic].append(message)

    @rule(topic=topics, limit=st.integers(1, 3), again=st.booleans(), i=backend_indices)
    def remove_dead(self, topic: str, limit: int, again: bool, i: int) -> None:
        queue = self.backends[i].queue
        letters, self.dead_letters[topic] = self.dead_letters[topic][:limit], self.dead_letters[topic][limit:]
        number = self.run((queue.redrive if again else queue.drop)(topic, limit=limit))
        assert number == len(letters)
        if again:
            self.messages += [Modelled(topic, letter.body) for letter in letters]

    @rule(seconds=times)
    def advance(self, seconds: float) -> None:
        self.now += seconds
        for message in self.messages:
            if message.state in ("delayed", "leased") and message.until <= self.now:
                message.state = "ready"

    @invariant()
    def counts_agree(self) -> None:
        for topic in TOPICS:
            states = [message.state for message in self.messages if message.topic == topic]
            dead = self.run(self.backends[0].queue.dead(topic, limit=1000))
            assert [letter.body for letter in dead] == [letter.body for letter in self.dead_letters[topic]]
            assert self.run(self.backends[1].queue.stats(topic)) == QueueStats(
                states.count("ready"), states.count("leased"), states.count("delayed"), len(dead)
            )


QueueHistory.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyHistoryAgreesWithTheModel = QueueHistory.TestCase
