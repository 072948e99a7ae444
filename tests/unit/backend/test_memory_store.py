"""The memory store, the memory cache, and spaces that backends share."""

import asyncio
import pickle
from typing import Any

import pytest

from brrr_core.backend import BackendUrl, Key, Store, Swap
from brrr_core.backend.memory import MAX_BYTES, MemoryBackend, forget
from brrr_core.errors import BackendClosedError, BackendError, ForkedError, UrlError, ValueTooLargeError

A, B, C = Key("call", "a"), Key("value", "a"), Key("value", "b")


@pytest.fixture
def store(backend: MemoryBackend) -> Store:
    return backend.store


async def test_read_returns_records_in_the_order_of_the_keys(store: Store) -> None:
    await store.write([(A, b"1"), (C, b"")])
    assert await store.read([C, B, A, A]) == [b"", None, b"1", b"1"]


async def test_last_write_of_a_key_in_a_batch_stays(store: Store) -> None:
    await store.write([(A, b"1"), (A, b"2")])
    assert await store.read([A]) == [b"2"]


async def test_each_swap_of_a_batch_compares_creates_or_deletes_independently(store: Store) -> None:
    await store.write([(A, b"1")])
    assert await store.swap(
        [Swap(A, b"0", b"2"), Swap(A, None, b"2"), Swap(B, None, b"new"), Swap(B, None, b"no")]
    ) == [
        False,
        False,
        True,
        False,
    ]
    assert await store.swap(
        [Swap(A, b"1", b"2"), Swap(A, b"2", None), Swap(B, b"other", None), Swap(C, None, None)]
    ) == [
        True,
        True,
        False,
        True,
    ]
    assert await store.read([A, B, C]) == [None, b"new", None]
    assert await store.swap([Swap(C, b"1", None)]) == [False]


async def test_write_or_swap_with_too_large_value_changes_nothing(store: Store) -> None:
    huge = bytes(MAX_BYTES + 1)
    with pytest.raises(ValueTooLargeError, match=f"{MAX_BYTES + 1} bytes"):
        await store.write([(A, b"small"), (B, huge)])
    with pytest.raises(ValueTooLargeError, match=f"{MAX_BYTES + 1} bytes"):
        await store.swap([Swap(A, None, b"small"), Swap(B, None, huge)])
    assert await store.read([A, B]) == [None, None]
    await store.write([(A, huge[1:])])
    assert await store.swap([Swap(A, huge[1:], huge[1:])]) == [True]


async def test_empty_batch_returns_empty_result(backend: MemoryBackend) -> None:
    assert await backend.store.read([]) == []
    await backend.store.write([])
    assert await backend.store.swap([]) == []
    assert await backend.cache.increment({}) == {}


async def test_increment_adds_amounts_and_zero_reads(backend: MemoryBackend) -> None:
    assert await backend.cache.increment({"a": 1, "b": 10**18, "c": 0}) == {"a": 1, "b": 10**18, "c": 0}
    assert await backend.cache.increment({"a": -5, "c": 0, "b": 0}) == {"a": -4, "c": 0, "b": 10**18}
    assert backend.cache._counters == {"a": -4, "b": 10**18}  # type: ignore[attr-defined]


async def test_backends_of_one_name_share_a_space_and_others_do_not(name: str, clock: Any) -> None:
    def opened(path: str) -> MemoryBackend:
        return MemoryBackend(BackendUrl("memory", path=path), clock=clock)

    async with opened(name) as one, opened(name) as two, opened("") as private, opened("") as other:
        for backend in (one, private):
            await backend.queue.put("t", [b"x"])
            await backend.store.write([(A, b"1")])
            await backend.cache.increment({"n": 1})
        for backend, seen in ((two, 1), (other, 0)):
            assert len(await backend.queue.receive("t", limit=1, wait=0)) == seen
            assert await backend.store.read([A]) == [b"1" if seen else None]
            assert await backend.cache.increment({"n": 0}) == {"n": seen}


async def test_named_space_outlives_its_backends_until_it_is_forgotten(name: str) -> None:
    backend = MemoryBackend(BackendUrl("memory", path=name))
    async with backend:
        await backend.store.write([(A, b"1")])
    async with backend:
        assert await backend.store.read([A]) == [b"1"]
        forget(name)
        assert await backend.store.read([A]) == [b"1"]  # an open backend keeps its space
    async with backend:
        assert await backend.store.read([A]) == [None]
    forget("never used")


async def test_unnamed_backend_has_new_space_each_time_it_is_opened() -> None:
    backend = MemoryBackend(BackendUrl("memory"))
    async with backend:
        await backend.store.write([(A, b"1")])
    async with backend:
        assert await backend.store.read([A]) == [None]


async def test_named_space_refuses_second_clock(name: str, clock: Any) -> None:
    async with MemoryBackend(BackendUrl("memory", path=name)):
        with pytest.raises(BackendError, match="another clock"):
            await MemoryBackend(BackendUrl("memory", path=name), clock=clock).open()


async def test_operations_of_every_role_are_refused_after_close(backend: MemoryBackend) -> None:
    queue, store, cache = backend.queue, backend.store, backend.cache
    await queue.put("t", [b"x"])
    held = await queue.receive("t", limit=1, wait=0)
    await backend.close()
    await backend.close()
    for refused in (
        lambda: queue.put("t", []),
        lambda: queue.receive("t", limit=1, wait=0),
        lambda: queue.ack(held),
        lambda: queue.release(held),
        lambda: queue.extend(held),
        lambda: queue.bury(held[0], "why"),
        lambda: queue.stats("t"),
        lambda: queue.dead("t", limit=1),
        lambda: queue.redrive("t", limit=1),
        lambda: queue.drop("t", limit=1),
        lambda: store.read([]),
        lambda: store.write([]),
        lambda: store.swap([]),
        lambda: cache.increment({}),
    ):
        with pytest.raises(BackendClosedError):
            await refused()


def test_memory_url_with_host_or_user_is_refused() -> None:
    for url in (BackendUrl("memory", hosts=(("host", None),)), BackendUrl("memory", username="me")):
        with pytest.raises(UrlError, match="host or a user"):
            MemoryBackend(url)


def test_backend_cannot_be_pickled() -> None:
    with pytest.raises(ForkedError):
        pickle.dumps(MemoryBackend(BackendUrl("memory")))


async def test_concurrent_swaps_in_threads_lose_no_update(name: str) -> None:
    async def climb() -> None:
        async with MemoryBackend(BackendUrl("memory", path=name)) as backend:
            done = 0
            while done < 200:
                [now] = await backend.store.read([A])
                [swapped] = await backend.store.swap([Swap(A, now, b"%d" % (int(now or b"0") + 1))])
                done += swapped
                await backend.cache.increment({"n": 1 if swapped else 0})

    await asyncio.gather(*(asyncio.to_thread(asyncio.run, climb()) for _ in range(4)))
    async with MemoryBackend(BackendUrl("memory", path=name)) as backend:
        assert await backend.store.read([A]) == [b"800"]
        assert await backend.cache.increment({"n": 0}) == {"n": 800}
