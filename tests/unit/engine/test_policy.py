"""The delay between attempts: exponential, bounded, and spread."""

from typing import Any

import pytest

from brrr_core.engine.policy import Policy
from brrr_core.errors import PolicyError


def policy_with(name: str, value: Any) -> Policy:
    options: dict[str, Any] = {name: value}
    return Policy(**options)


@pytest.mark.parametrize(("attempt", "full"), [(1, 1.0), (2, 2.0), (5, 16.0), (9, 256.0), (10, 300.0), (10**9, 300.0)])
def test_each_attempt_waits_twice_as_long_up_to_the_limit(attempt: int, full: float) -> None:
    delays = [Policy().retry_delay(attempt) for _ in range(200)]
    assert full / 2 <= min(delays) < max(delays) <= full
    assert max(delays) - min(delays) > full / 4  # spread, so that calls that failed together are not retried together


def test_backoff_can_be_set() -> None:
    policy = Policy(backoff=0.1, backoff_limit=0.3)
    assert 0.05 <= policy.retry_delay(1) <= 0.1
    assert 0.15 <= policy.retry_delay(50) <= 0.3


@pytest.mark.parametrize("name", ["spawn_limit", "max_attempts", "max_deliveries", "max_crashes"])
def test_limit_is_at_least_one(name: str) -> None:
    with pytest.raises(PolicyError, match=name):
        policy_with(name, 0)
    assert getattr(policy_with(name, 1), name) == 1


@pytest.mark.parametrize("name", ["backoff", "backoff_limit", "grace", "unavailable_timeout", "cache_bytes"])
@pytest.mark.parametrize("value", [-1, float("nan"), "30s"])
def test_times_and_sizes_are_numbers_and_not_negative(name: str, value: float) -> None:
    with pytest.raises(PolicyError, match=name):
        policy_with(name, value)
    assert getattr(policy_with(name, 0), name) == 0


def test_call_that_returns_by_itself() -> None:
    assert Policy().spawn_limit == 1_000_000  # 2,500 documents of three steps each need 12,500 messages
