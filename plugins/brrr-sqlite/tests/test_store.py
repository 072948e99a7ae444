"""The store swaps atomically, and the counters of the cache are exact."""

import pytest

from brrr_core.backend import Key, Swap
from brrr_core.errors import ArgumentError, BackendError, ValueTooLargeError
from brrr_sqlite import store as store_module

KINDS = ("call", "pending_returns", "value")
A = Key("value", "a")


async def test_absent_key_reads_as_none(store):
    assert await store.read([A, A]) == [None, None]


async def test_value_is_read_unchanged(store):
    values = [b"", b"\0", bytes(range(256)), b"x" * 1_000_000]
    keys = [Key("call", str(n)) for n in range(len(values))]
    await store.write(list(zip(keys, values, strict=True)))
    assert await store.read(keys) == values


async def test_similar_keys_stay_separate(store):
    keys = [Key(kind, name) for kind in KINDS for name in ("a", "A", "a ", "~!@#$%^&*()'\"\\", "x" * 1024)]
    await store.write([(key, f"{key}".encode()) for key in keys])
    assert await store.read(keys) == [f"{key}".encode() for key in keys]


@pytest.mark.parametrize("size", [0, 1, 1000])
async def test_batch_may_have_any_size(store, size):
    keys = [Key("value", str(n)) for n in range(size)]
    await store.write([(key, b"1") for key in keys])
    assert await store.swap([Swap(key, b"1", b"2") for key in keys]) == [True] * size
    assert await store.read(keys) == [b"2"] * size


async def test_empty_batch_writes_nothing(backend, store, cache):
    before = backend.transactions
    await store.write([])
    assert await store.swap([]) == []
    assert await cache.increment({}) == {}
    assert backend.transactions == before


async def test_last_value_of_a_repeated_key_counts(store):
    await store.write([(A, b"1"), (A, b"2")])
    assert await store.read([A]) == [b"2"]


@pytest.mark.parametrize("now", [None, b"1", b""])
@pytest.mark.parametrize("expected", [None, b"1", b""])
@pytest.mark.parametrize("new", [None, b"1", b"2", b""])
async def test_swap_is_compare_and_set(store, now, expected, new):
    if now is not None:
        await store.write([(A, now)])
    assert await store.swap([Swap(A, expected, new)]) == [now == expected]
    assert await store.read([A]) == [new if now == expected else now]


async def test_swaps_of_one_key_run_in_order(store):
    swaps = [Swap(A, None, b"1"), Swap(A, None, b"2"), Swap(A, b"1", b"3"), Swap(A, b"3", None), Swap(A, None, b"4")]
    assert await store.swap(swaps) == [True, False, True, True, True]
    assert await store.read([A]) == [b"4"]


@pytest.mark.parametrize("how", ["write", "swap"])
async def test_too_large_value_writes_nothing(store, monkeypatch, how):
    monkeypatch.setattr(store_module, "MAX_BYTES", 10)
    b = Key("value", "b")
    items = [(A, b"1"), (b, b"x" * 11)]
    operation = store.write(items) if how == "write" else store.swap([Swap(key, None, value) for key, value in items])
    with pytest.raises(ValueTooLargeError):
        await operation
    assert await store.read([A, b]) == [None, None]


async def test_call_hash_with_a_lone_surrogate_is_refused(store):
    with pytest.raises(ArgumentError, match="surrogate"):
        await store.read([Key("value", "\ud800")])


async def test_counters_add_up(cache):
    assert await cache.increment({"a": 1, "b": -5, "c": 0}) == {"a": 1, "b": -5, "c": 0}
    assert await cache.increment({"a": 2, "nul\0": 1, "nul": 7}) == {"a": 3, "nul\0": 1, "nul": 7}
    assert await cache.increment({"a": 0, "b": 0}) == {"a": 3, "b": -5}


async def test_reading_a_counter_writes_nothing(backend, cache):
    before = backend.transactions
    await cache.increment({"a": 0})
    assert backend.transactions == before


async def test_counter_is_limited_to_64_bits(cache):
    most = 2**63 - 1
    for amount, sum_ in ((2**62, 2**62), (2**62 - 1, most)):
        assert await cache.increment({"a": amount}) == {"a": sum_}
    with pytest.raises(BackendError):
        await cache.increment({"b": 1, "a": 1})
    assert await cache.increment({"a": 0, "b": 0}) == {"a": most, "b": 0}
