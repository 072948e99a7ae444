"""The steps beyond the contract kit: what one script does, and what is left if it fails or its answer is lost."""

import asyncio
from collections.abc import Sequence

import pytest

import brrr_core as brrr
from brrr_core.backend import Backend, Count, Delivery, Key, Message, Reading, Step, Steps, Swap
from brrr_core.errors import ArgumentError, BackendError, BackendUnavailableError, BodyTooLargeError, ValueTooLargeError
from brrr_redis.layout import Layout
from brrr_redis.options import MAX_BODY, MAX_VALUE
from brrr_testkit.faults.relay import RedisProxy
from brrr_testkit.servers.redis import Cluster, Server
from brrr_testkit.waiting import until

TOPIC, OTHER = "jobs", "other jobs"
KEYS = Layout("").topic(TOPIC)
BODY = b"li2e4:root4:hashe"
VALUE, CALL, PENDING = Key("value", "hash"), Key("call", "hash"), Key("pending_returns", "hash")
READINGS = (Reading("call"), Reading("value"), Reading("value", "brrr.root/", "root_id"))


def steps_of(backend: Backend) -> Steps:
    assert backend.steps is not None
    return backend.steps


async def held(backend: Backend, *bodies: bytes) -> list[Delivery]:
    await backend.queue.put(TOPIC, bodies)
    return await backend.queue.receive(TOPIC, limit=len(bodies), wait=0)


def full_step(acks: Sequence[Delivery] = ()) -> Step:
    """A step with every field, which applies on an empty server."""
    return Step(
        expected=[(VALUE, None)],
        counts=[Count("brrr_count/root", 2, 10)],
        writes=[(VALUE, b"v")],
        messages=[Message(TOPIC, b"ready"), Message(OTHER, b"later", delay=60), Message(OTHER, BODY, leased=True)],
        marks=[(PENDING, b"p"), (CALL, None)],
        acks=acks,
    )


async def state(backend: Backend) -> tuple[object, ...]:
    queue, store = backend.queue, backend.store
    return (
        await store.read([VALUE, CALL, PENDING]),
        await backend.cache.increment({"brrr_count/root": 0}),
        (await queue.stats(TOPIC))[:3],
        (await queue.stats(OTHER))[:3],
    )


EMPTY = ([None, None, None], {"brrr_count/root": 0}, (0, 0, 0), (0, 0, 0))
FULL = ([b"v", None, b"p"], {"brrr_count/root": 2}, (1, 0, 0), (0, 1, 1))


@pytest.mark.parametrize("options", ["", "?ttl=1h", "?prefix=mine:", "?prefix=mine:&ttl=1h"])
async def test_step_applies_all_its_effects_in_one_command(proxy: RedisProxy, options: str) -> None:
    async with brrr.open_backend(proxy.url + options) as backend:
        await steps_of(backend).commit([Step(())])  # now the server has seen the script
        await backend.store.write([(CALL, b"c"), (Key("value", "brrr.root/root"), b"r")])
        acks = await held(backend, b"mine")
        proxy.clear()

        (found,) = await steps_of(backend).commit([full_step(acks)], readings=READINGS)

        assert [words[0] for words in proxy.commands] == [b"EVALSHA"]
        assert found is not None
        ((delivery, records),) = found
        assert (delivery.topic, delivery.body, delivery.attempt) == (OTHER, BODY, 1)
        assert records == [None, b"v", b"r"]
        assert await state(backend) == FULL
        await backend.queue.ack([delivery])
        assert (await backend.queue.stats(OTHER))[:3] == (0, 0, 1)


@pytest.mark.parametrize(
    "wrong",
    [(VALUE, b"x"), (PENDING, b""), (CALL, None), (CALL, b"C"), (CALL, b"")],
    ids=["absent", "absent and empty", "there", "other", "not empty"],
)
async def test_step_has_no_effect_if_an_expected_record_differs(
    backend: Backend, steps: Steps, wrong: tuple[Key, bytes | None]
) -> None:
    await backend.store.write([(CALL, b"c")])
    step = full_step(await held(backend, b"mine"))
    expected = [(Key("value", "none"), None), wrong]
    before = await state(backend)

    assert await steps.commit([step._replace(expected=expected)]) == [None]

    assert await state(backend) == before
    expected[1] = (wrong[0], (await backend.store.read([wrong[0]]))[0])
    assert await steps.commit([step._replace(expected=expected)]) != [None]


async def test_empty_record_is_not_absent(backend: Backend, steps: Steps) -> None:
    await backend.store.write([(VALUE, b"")])

    assert await steps.commit([Step([(VALUE, None)]), Step([(VALUE, b"")])]) == [None, []]


@pytest.mark.parametrize(
    ("count", "amount", "limit", "applied"),
    [
        (0, 10, 10, True),
        (0, 11, 10, False),
        (9, 1, 10, True),
        (9, 2, 10, False),
        (100, 1, 99, False),
        (-5, 1, 0, True),
        (-5, 8, 2, False),
        (-5, 8, 3, True),
        (-100, 1, -99, True),
        (-100, 1, -100, False),
        (2**53, 1, 2**53, False),
        (2**53, 1, 2**53 + 1, True),
        (2**63 - 2, 1, 2**63 - 1, True),
        (2**63 - 1, 1, 2**70, False),
        (-(2**63), 2**62, -(2**62), True),
        (-(2**63), 2**62, -(2**62) - 1, False),
    ],
)
async def test_step_has_no_effect_if_a_counter_exceeds_its_limit(
    backend: Backend, steps: Steps, valkey: Server, count: int, amount: int, limit: int, applied: bool
) -> None:
    valkey.do("SET", "brrr_count/b", count)
    counts = [Count("brrr_count/a", 1, 1), Count("brrr_count/b", amount, limit)]

    assert await steps.commit([Step((), counts, writes=[(VALUE, b"v")])]) == [[] if applied else None]

    assert await backend.cache.increment({"brrr_count/a": 0, "brrr_count/b": 0}) == {
        "brrr_count/a": int(applied),
        "brrr_count/b": count + applied * amount,
    }
    assert await backend.store.read([VALUE]) == [b"v" if applied else None]


async def test_counter_expires_after_its_last_addition(url: str, valkey: Server) -> None:
    async with brrr.open_backend(f"{url}?counter_ttl=1h") as backend:
        await steps_of(backend).commit([Step((), [Count("brrr_count/a", 1, 9), Count("b", 1, 9)])])

    for key in ("brrr_count/a", "brrr:counter:b"):
        assert 3_590_000 < valkey.do("PTTL", key) <= 3_600_000


async def test_steps_see_the_effects_of_earlier_ones_and_not_those_of_refused_ones(
    backend: Backend, steps: Steps
) -> None:
    await backend.store.write([(CALL, b"0")])
    leased = Message(TOPIC, BODY, leased=True)
    batch = [
        Step([(CALL, b"0")], writes=[(CALL, b"1")], messages=[leased]),
        Step([(CALL, b"0")], [Count("a", 1, 9)], [(CALL, b"x")], [leased, Message(OTHER, b"x")], [(CALL, b"y")]),
        Step([(CALL, b"1")], marks=[(CALL, None)], messages=[leased, Message(OTHER, BODY, leased=True), leased]),
        Step([(CALL, None)]),
        Step(()),
    ]

    found = await steps.commit(batch, readings=[Reading("call")])

    topics = [None if step is None else [delivery.topic for delivery, _ in step] for step in found]
    assert topics == [[TOPIC], None, [TOPIC, OTHER, TOPIC], [], []]
    records = [None if step is None else [record for _, record in step] for step in found]
    assert records == [[[b"1"]], None, [[None]] * 3, [], []]
    members = [delivery.receipt for step in found for delivery, _ in step or ()]
    assert len(set(members)) == 4
    assert (await backend.queue.stats(TOPIC)).leased == 3
    assert await backend.cache.increment({"a": 0}) == {"a": 0}


async def test_marks_follow_writes_of_the_same_record(backend: Backend, steps: Steps) -> None:
    await steps.commit([Step((), writes=[(CALL, b"1"), (CALL, b"2")], marks=[(CALL, None), (VALUE, b"v")])])

    assert await backend.store.read([CALL, VALUE]) == [None, b"v"]


async def test_no_steps_need_no_command(proxy: RedisProxy) -> None:
    async with brrr.open_backend(proxy.url) as backend:
        proxy.clear()

        assert await steps_of(backend).commit([]) == []

        assert proxy.commands == []


async def test_stale_and_foreign_receipts_are_skipped(url: str, backend: Backend, steps: Steps) -> None:
    (settled,) = await held(backend, b"settled")
    await backend.queue.ack([settled])
    (mine,) = await held(backend, b"mine")
    foreign = Delivery(TOPIC, b"foreign", object(), 1)

    assert await steps.commit([Step((), writes=[(VALUE, b"v")], acks=[settled, foreign, mine, mine])]) == [[]]

    assert await backend.store.read([VALUE]) == [b"v"]
    assert await backend.queue.stats(TOPIC) == (0, 0, 0, 0)


async def test_expired_lease_has_ended_before_the_step_acknowledges_it(
    backend: Backend, steps: Steps, valkey: Server
) -> None:
    (mine,) = await held(backend, b"late")
    (member,) = valkey.do("ZRANGE", KEYS.leases, 0, -1)
    valkey.do("ZADD", KEYS.leases, 1, member)

    assert await steps.commit([Step((), acks=[mine])]) == [[]]

    assert await backend.queue.stats(TOPIC) == (1, 0, 0, 0)


async def test_leased_message_returns_when_its_lease_expires(url: str) -> None:
    async with brrr.open_backend(f"{url}?lease=50ms&sweep=20ms") as backend:
        ((first,),) = await steps_of(backend).commit([Step((), messages=[Message(TOPIC, BODY, leased=True)])])  # type: ignore[misc]
        assert first.delivery.attempt == 1

        (again,) = await backend.queue.receive(TOPIC, limit=1, wait=10)

        assert (again.body, again.attempt) == (BODY, 2)


@pytest.mark.parametrize("seconds", [0.1, 0.0001])
async def test_delayed_message_of_the_same_process_wakes_a_receiver_before_the_next_sweep(
    url: str, valkey: Server, seconds: float
) -> None:
    async with brrr.open_backend(url, sweep=3600) as backend, asyncio.timeout(10):
        receiving = asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=60))
        await until(lambda: valkey.do("INFO", "clients")["blocked_clients"] == 1)

        await steps_of(backend).commit([Step((), messages=[Message(TOPIC, b"x", delay=seconds)])])

        assert [each.body for each in await receiving] == [b"x"]


async def test_expired_lease_of_a_leased_message_wakes_a_receiver_before_the_next_sweep(
    url: str, valkey: Server
) -> None:
    async with brrr.open_backend(url, sweep=3600, lease=0.1) as backend, asyncio.timeout(10):
        receiving = asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=60))
        await until(lambda: valkey.do("INFO", "clients")["blocked_clients"] == 1)

        await steps_of(backend).commit([Step((), messages=[Message(TOPIC, b"x", leased=True)])])

        assert [each.attempt for each in await receiving] == [2]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (Step((), messages=[Message("", b"x")]), ArgumentError),
        (Step((), messages=[Message("brrr:call:x", b"x")]), ArgumentError),
        (Step((), messages=[Message(TOPIC, b"x", delay=-1)]), ArgumentError),
        (Step((), messages=[Message(TOPIC, bytes(MAX_BODY + 1))]), BodyTooLargeError),
        (Step((), writes=[(VALUE, bytes(MAX_VALUE + 1))]), ValueTooLargeError),
        (Step((), marks=[(VALUE, bytes(MAX_VALUE + 1))]), ValueTooLargeError),
        (Step((), [Count("a", 2**63, 2**64)]), ArgumentError),
    ],
    ids=lambda each: each.__name__ if isinstance(each, type) else "",
)
async def test_wrong_argument_applies_no_step(
    backend: Backend, steps: Steps, bad: Step, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await steps.commit([full_step(), *[Step(())] * 2000, bad])

    assert await state(backend) == EMPTY


@pytest.mark.parametrize("wrong", ["brrr_count/root", KEYS.ready, *Layout("").topic(OTHER)[2:4]], ids=str)
async def test_key_of_another_type_is_found_before_the_first_effect(
    backend: Backend, steps: Steps, valkey: Server, wrong: bytes | str
) -> None:
    valkey.do("HSET", wrong, "a", "b")

    with pytest.raises(BackendError, match="a value of another type"):
        await steps.commit([full_step()])

    assert sorted(valkey.do("KEYS", "*")) == [wrong if isinstance(wrong, bytes) else wrong.encode()]


async def test_expected_record_of_another_type_raises(backend: Backend, steps: Steps, valkey: Server) -> None:
    valkey.do("HSET", "brrr:value:hash", "a", "b")
    with pytest.raises(BackendError, match="a value of another type"):
        await steps.commit([full_step()])


async def test_counter_that_is_no_integer_is_found_before_the_first_effect(steps: Steps, valkey: Server) -> None:
    valkey.do("SET", "brrr:counter:b", "text")

    with pytest.raises(BackendError, match="not an integer"):
        await steps.commit([Step((), [Count("a", 1, 9), Count("b", 1, 9)])])

    assert valkey.do("KEYS", "*") == [b"brrr:counter:b"]


FIELDS = {
    "counts": full_step()._replace(writes=(), messages=(), marks=()),
    "writes": full_step()._replace(counts=(), messages=(), marks=()),
    "ready": Step((), messages=[Message(TOPIC, b"x")]),
    "delayed": Step((), messages=[Message(TOPIC, b"x", delay=1)]),
    "leased": Step((), messages=[Message(TOPIC, b"x", leased=True)]),
    "marks": Step((), marks=[(PENDING, b"p")]),
    "all": full_step(),
}


@pytest.mark.parametrize("name", FIELDS)
async def test_full_server_refuses_a_step_that_grows_and_applies_nothing(
    backend: Backend, steps: Steps, valkey: Server, name: str
) -> None:
    acks = await held(backend, b"mine")
    before = await state(backend)
    valkey.do("CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(BackendUnavailableError, match="is full"):
            await steps.commit([FIELDS[name]._replace(acks=acks)])
        assert await state(backend) == before

        await steps.commit([Step([(VALUE, None)], marks=[(CALL, None)], acks=acks)])
    finally:
        valkey.do("CONFIG", "SET", "maxmemory", 0)
    assert await state(backend) == EMPTY


async def test_lost_answer_raises_and_releases_the_leased_messages(proxy: RedisProxy) -> None:
    async with brrr.open_backend(proxy.url) as backend, asyncio.timeout(20):
        await steps_of(backend).commit([Step(())])
        acks = await held(backend, b"mine")
        proxy.lose_answer_to(lambda words: words[0] == b"EVALSHA")
        proxy.clear()

        with pytest.raises(BackendUnavailableError, match="lost before the reply came"):
            await steps_of(backend).commit([full_step(acks)])

        assert [words[0] for words in proxy.commands] == [b"EVALSHA"], "it is not repeated"
        (again,) = await backend.queue.receive(OTHER, limit=1, wait=10)
        assert (again.body, again.attempt) == (BODY, 1)
        assert await state(backend) == FULL


async def test_commit_that_is_cancelled_applies_all_or_nothing_and_leases_nothing(
    backend: Backend, steps: Steps, valkey: Server
) -> None:
    outcomes = set[bool]()
    for turns in range(12):
        acks = await held(backend, b"mine")
        committing = asyncio.create_task(steps.commit([full_step(acks)]))
        for _ in range(turns):
            await asyncio.sleep(0)
        committing.cancel()
        await asyncio.wait({committing})
        if not committing.cancelled():
            break
        async with asyncio.timeout(10):
            while (await backend.queue.stats(OTHER)).leased:  # noqa: ASYNC110 - the release has no event
                await asyncio.sleep(0.002)
        values, counter, jobs, others = await state(backend)
        applied = counter == {"brrr_count/root": 2}
        outcomes.add(applied)
        if applied:
            assert (values, jobs, others) == ([b"v", None, b"p"], (1, 0, 0), (1, 0, 1))
        else:
            assert (values, jobs, others) == ([None] * 3, (0, 1, 0), (0, 0, 0))
        valkey.do("FLUSHDB")
    assert outcomes == {False, True}


async def test_large_batch_takes_several_scripts_in_order(proxy: RedisProxy) -> None:
    async with brrr.open_backend(proxy.url) as backend:
        steps = [
            Step(
                [(CALL, b"%d" % n if n else None)],
                writes=[(CALL, b"%d" % (n + 1))],
                messages=[Message(TOPIC, b"%d" % n)],
            )
            for n in range(2000)
        ]
        await steps_of(backend).commit([Step(())])
        proxy.clear()

        assert await steps_of(backend).commit(steps) == [[]] * 2000

        assert 3 < len(proxy.commands) < 20
        assert all(len(words) < 6000 for words in proxy.commands)
        assert [each.body for each in await backend.queue.receive(TOPIC, limit=1000, wait=0)] == [
            b"%d" % n for n in range(1000)
        ]


async def test_step_of_10000_messages_and_acks_is_one_script(proxy: RedisProxy) -> None:
    async with brrr.open_backend(proxy.url) as backend:
        bodies = [b"%d" % number for number in range(1000)]
        acks = await held(backend, *bodies)
        messages = [Message(TOPIC, b"%d" % number, leased=number % 2 == 0) for number in range(10_000)]
        proxy.clear()

        (found,) = await steps_of(backend).commit([Step((), messages=messages, acks=acks)])

        assert len(proxy.commands) <= 2, "at most one without and one with the source"
        assert found is not None
        assert [each.delivery.body for each in found] == [b"%d" % number for number in range(0, 10_000, 2)]
        assert await backend.queue.stats(TOPIC) == (5000, 5000, 0, 0)


async def test_value_of_a_step_and_its_call_expire_together(url: str, valkey: Server) -> None:
    control, wait = Key("value", "brrr.control"), Key("value", "brrr.wait/x")
    async with brrr.open_backend(url, ttl="1h") as backend:
        steps = steps_of(backend)
        await backend.store.write([(CALL, b"c")])
        await steps.commit([Step((), writes=[(PENDING, b"p"), (VALUE, b"v")], marks=[(control, b"c"), (wait, b"w")])])
        for key in ("brrr:call:hash", "brrr:value:hash", "brrr:value:brrr.wait/x"):
            assert 3_590_000 < valkey.do("PTTL", key) <= 3_600_000
        for key in ("brrr:pending_returns:hash", "brrr:value:brrr.control"):
            assert valkey.do("PTTL", key) == -1

        await steps.commit([Step((), marks=[(VALUE, None), (wait, None), (control, None)])])

        assert valkey.do("PTTL", "brrr:call:hash") == -1
        assert await backend.store.read([VALUE, wait, control]) == [None] * 3


async def test_steps_and_operations_of_other_workers_exclude_each_other(url: str) -> None:
    """Two workers add to one record with steps, two with swaps. No addition is lost."""
    async with brrr.open_backend(url) as one, brrr.open_backend(url) as two:

        async def add(backend: Backend, *, with_steps: bool) -> int:
            done = 0
            while done < 50:
                (old,) = await backend.store.read([CALL])
                new = b"%d" % (int(old or 0) + 1)
                if with_steps:
                    messages = [Message(TOPIC, new)]
                    done += (await steps_of(backend).commit([Step([(CALL, old)], (), [(CALL, new)], messages)])) != [
                        None
                    ]
                else:
                    done += (await backend.store.swap([Swap(CALL, old, new)]))[0]
            return done

        await asyncio.gather(*(add(backend, with_steps=each) for backend in (one, two) for each in (True, False)))

        assert await one.store.read([CALL]) == [b"200"]
        assert (await one.queue.stats(TOPIC)).ready == 100


async def test_cluster_has_no_steps(whole_cluster: Cluster) -> None:
    async with brrr.open_backend(whole_cluster.url) as backend:
        assert backend.steps is None
