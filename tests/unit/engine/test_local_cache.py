"""The memory of a worker is bounded, and drops the oldest entries first."""

from brrr_core.engine.calls import Child
from brrr_core.engine.local_cache import ENTRY_OVERHEAD, PreviousRun, RunHistory, ValueCache
from brrr_core.wire import Call


def test_used_value_outlives_unused_value() -> None:
    cache = ValueCache(3 * (ENTRY_OVERHEAD + 10))
    for name in "abc":
        cache.add(name, b"x" * 10)
    assert cache.get("a") is not None
    cache.add("d", b"x" * 10)
    assert [name for name in "abcd" if cache.get(name) is not None] == ["a", "c", "d"]


def test_value_is_added_once() -> None:
    cache = ValueCache(2 * (ENTRY_OVERHEAD + 10))
    for _ in range(10):
        cache.add("a", b"x" * 10)
    cache.add("b", b"x" * 10)
    assert cache.get("a") == cache.get("b") == b"x" * 10


def test_value_is_dropped_at_its_greatest_age() -> None:
    now = [1_000.0]
    cache = ValueCache(10_000, max_age=10, clock=lambda: now[0])
    cache.add("a", b"x")
    now[0] += 9
    cache.add("b", b"x")
    assert cache.get("a") == b"x"
    now[0] += 1
    assert cache.get("a") is None
    assert cache.get("b") is None
    cache.add("a", b"x")
    assert cache.get("a") == b"x"


def test_value_is_dropped_if_the_clock_was_set_back() -> None:
    now = [1_000.0]
    cache = ValueCache(10_000, max_age=10, clock=lambda: now[0])
    cache.add("a", b"x")
    now[0] -= 1
    assert cache.get("a") is None


def test_value_larger_than_the_cache_is_not_kept() -> None:
    cache = ValueCache(ENTRY_OVERHEAD + 10)
    cache.add("large", b"x" * 11)
    assert cache.get("large") is None
    cache.add("small", b"x" * 10)
    assert cache.get("small") is not None


def test_value_cache_of_zero_bytes() -> None:
    cache = ValueCache(0)
    cache.add("a", b"")
    assert cache.get("a") is None


def test_empty_value_is_a_value() -> None:
    cache = ValueCache(10_000)
    cache.add("a", b"")
    assert cache.get("a") == b""


def past(reads: int, missing: int = 0) -> PreviousRun:
    child = Child(Call("task", b"", "hash"), "topic")
    return PreviousRun(tuple(map(str, range(reads))), (child,) * missing)


def test_previous_run_is_returned_once_and_only_to_its_own_root() -> None:
    history = RunHistory()
    history.add("root", "call", past(3))
    assert history.take("other", "call") is None
    assert history.take("root", "call") == past(3)
    assert history.take("root", "call") is None


def test_history_is_bounded_by_its_hashes() -> None:
    history = RunHistory(limit=10)
    history.add("root", "old", past(4, 1))
    history.add("root", "new", past(2, 1))  # 6 and 4
    assert history.take("root", "new") is not None
    history.add("root", "newer", past(4))
    assert history.take("root", "old") is None
    assert history.take("root", "newer") is not None
    history.add("root", "huge", past(11))
    assert history.take("root", "huge") is None
    assert history._size == 0


def test_replaced_previous_run_frees_its_space() -> None:
    history = RunHistory(limit=10)
    for n in range(20):
        history.add("root", "call", past(5 + n % 2))
    assert history.take("root", "call") is not None
    assert history._size == 0
