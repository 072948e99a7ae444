"""The SQLite backend agrees with the memory backend on random operations in random order."""

import asyncio
import tempfile

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brrr_core.backend import BackendUrl, Count, Key, Message, Reading, Step, Swap
from brrr_core.backend.memory import MemoryBackend, MemoryOptions
from brrr_sqlite.backend import SqliteBackend
from brrr_sqlite.clock import Clock
from brrr_sqlite.options import SqliteOptions

topics = st.sampled_from(["a", "b"])
some = st.lists(st.integers(0, 7), max_size=4)
keys = st.builds(Key, st.sampled_from(["call", "pending_returns", "value"]), st.sampled_from(["h", "i"]))
values = st.sampled_from([b"", b"1", b"2"])
optional = st.none() | values
counters = st.sampled_from("xyz")
marks = st.lists(st.tuples(keys, optional), max_size=2)
commits = st.tuples(
    st.dictionaries(keys, optional, max_size=1).map(lambda expected: list(expected.items())),
    st.lists(
        st.builds(Count, counters, st.integers(1, 3), st.integers(3, 9)), max_size=2, unique_by=lambda c: c.counter
    ),
    st.lists(st.tuples(keys, values), max_size=2),
    st.lists(st.tuples(topics, st.sampled_from([0, 7]), st.booleans()), max_size=3),
    marks,
    some,
)
READINGS = (Reading("call"), Reading("value"))
steps = st.one_of(
    st.tuples(st.just("put"), topics, st.integers(0, 4), st.sampled_from([0, 0, 7])),
    st.tuples(st.sampled_from(["receive", "take"]), topics),
    st.tuples(st.just("commit"), st.lists(commits, max_size=3)),
    st.tuples(st.sampled_from(["ack", "extend", "bury"]), some),
    st.tuples(st.just("release"), some, st.sampled_from([0, 7])),
    st.tuples(st.sampled_from(["redrive", "drop", "dead"]), topics, st.integers(1, 3)),
    st.tuples(st.just("pass"), st.sampled_from([1, 7, 29, 30])),
    st.tuples(st.just("read"), st.lists(keys, max_size=3)),
    st.tuples(st.just("write"), st.lists(st.tuples(keys, values), max_size=3)),
    st.tuples(st.just("swap"), st.lists(st.builds(Swap, keys, st.none() | values, st.none() | values), max_size=4)),
    st.tuples(st.just("increment"), st.dictionaries(st.sampled_from("xyz"), st.integers(-5, 5), max_size=2)),
)


class Runner:
    """Run steps on one backend and return their results. It compares messages by body, as receipts differ."""

    def __init__(self, backend):
        self.backend = backend
        self.put = 0
        self.held = {}  # (body, attempt) -> delivery

    def step(self, expected, counts, writes, messages, marks, acks):
        puts = []
        for topic, delay, leased in messages:
            root_id = str(self.put)
            body = f"li2e{len(root_id)}:{root_id}1:{'hi'[self.put % 2]}e" if self.put % 3 else root_id
            puts.append(Message(topic, body.encode(), 0 if leased else delay, leased))
            self.put += 1
        return Step(expected, counts, writes, puts, marks, self.chosen(acks))

    def hold(self, received):
        self.held |= {(r.delivery.body, r.delivery.attempt): r.delivery for r in received}
        return sorted(((r.delivery.topic, r.delivery.body, r.delivery.attempt), r.records) for r in received)

    def chosen(self, places):
        names = sorted(self.held)
        return [self.held[names[place % len(names)]] for place in places if names]

    async def do(self, step):
        queue, store = self.backend.queue, self.backend.store
        match step:
            case "put", topic, size, delay:
                bodies = [b"%d" % (self.put + n) for n in range(size)]
                self.put += size
                await queue.put(topic, bodies, delay=delay)
            case "receive", topic:
                taken = await queue.receive(topic, limit=1000, wait=0)
                self.held |= {(d.body, d.attempt): d for d in taken}
                return sorted((d.topic, d.body, d.attempt) for d in taken)
            case "take", topic:
                return self.hold(await self.backend.steps.receive(topic, limit=1000, wait=0, readings=READINGS))
            case "commit", parts:
                outcomes = await self.backend.steps.commit([self.step(*each) for each in parts], readings=READINGS)
                return [None if outcome is None else self.hold(outcome) for outcome in outcomes]
            case "ack" | "extend" as what, places:
                await getattr(queue, what)(self.chosen(places))
            case "bury", places:
                for delivery in self.chosen(places):
                    await queue.bury(delivery, "why")
            case "release", places, delay:
                await queue.release(self.chosen(places), delay=delay)
            case "dead", topic, limit:
                return [(d.topic, d.body, d.reason, d.attempt) for d in await queue.dead(topic, limit=limit)]
            case "redrive" | "drop" as what, topic, limit:
                return await getattr(queue, what)(topic, limit=limit)
            case "read" | "write" | "swap" as what, items:
                return await getattr(store, what)(items)
            case "increment", amounts:
                return await self.backend.cache.increment(amounts)
        return None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=5, max_size=60))
def test_sqlite_backend_agrees_with_memory_backend(script):
    async def play(folder):
        now = 1_700_000_000
        model = MemoryBackend(BackendUrl("memory"), MemoryOptions(), clock=lambda: now)
        ours = SqliteBackend(
            BackendUrl("sqlite", path=f"/{folder}/brrr.db"),
            SqliteOptions(synchronous="off"),
            clock=Clock(lambda: now * 10**9),
        )
        async with model, ours:
            runners = [Runner(model), Runner(ours)]
            for step in script:
                if step[0] == "pass":
                    now += step[1]
                expected, seen = [await runner.do(step) for runner in runners]
                assert seen == expected, step
                for topic in "ab":
                    assert await ours.queue.stats(topic) == await model.queue.stats(topic), (step, topic)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(folder))
