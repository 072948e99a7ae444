"""The kit accepts correct backends with late counts, or with a server that is not the host of the URL."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import pytest
from mutants.kit import GRACE, LEASE, MEMORY, ElsewhereOptions, QueueOver, Sound, registered, target_of

from brrr_contract_kit.execution import run_rule
from brrr_contract_kit.report import Outcome, Status
from brrr_contract_kit.rules import find, queue_dead
from brrr_contract_kit.target import Target
from brrr_core.backend import QueueStats


class CountsLate(QueueOver):
    """Returns counts that are `lag` seconds old."""

    lag: ClassVar[float] = 0.4

    def __init__(self, inner: QueueOver) -> None:
        super().__init__(inner)
        self.seen: deque[tuple[float, str, QueueStats]] = deque()

    async def stats(self, topic: str) -> QueueStats:
        now = time.monotonic()
        self.seen.append((now, topic, await self.inner.stats(topic)))
        old = [stats for at, of, stats in self.seen if of == topic and at <= now - self.lag]
        return old[-1] if old else QueueStats(0, 0, 0, 0)


def counted(rule: str, grace: float, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    monkeypatch.setattr(queue_dead, "DELAY", 0.3)
    target = target_of(type("CountsLateBackend", (Sound,), {"queue_kind": CountsLate}), MEMORY)
    return run_rule(find(rule), replace(target, grace=grace), "seed")


@pytest.mark.parametrize("rule", ["QUEUE-STATS-01", "QUEUE-STATS-02"])
def test_counts_may_lag_by_the_grace(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = counted(rule, 3.0, monkeypatch)

    assert outcome.status is Status.PASSED, outcome.reason


@pytest.mark.parametrize("rule", ["QUEUE-STATS-01", "QUEUE-STATS-02"])
def test_counts_may_not_lag_by_more_than_the_grace(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert counted(rule, 0.05, monkeypatch).status is Status.FAILED


def test_longer_grace_raises_the_time_limit_of_a_rule() -> None:
    async def asleep(ctx: object) -> None:
        await asyncio.sleep(0.3)

    slow = replace(find("CACHE-COUNT-01"), run=asleep, limit=0.1)
    for grace, status in ((5.0, Status.FAILED), (500.0, Status.PASSED)):
        assert run_rule(slow, replace(target_of(Sound, MEMORY), grace=grace), "seed").status is status


@pytest.fixture
def elsewhere() -> Iterator[str]:
    manifest = replace(
        MEMORY,
        schemes=("elsewhere",),
        example="elsewhere://x",
        backend="mutants.kit:Elsewhere",
        options=ElsewhereOptions,
    )
    with registered(manifest):
        yield "elsewhere://jobs?endpoint=127.0.0.1:1"


@pytest.mark.parametrize("rule", ["BACKEND-FAIL-01", "BACKEND-FAIL-02", "BACKEND-FAIL-03"])
def test_rules_about_unreachable_servers_do_not_apply_if_the_host_is_not_the_server(elsewhere: str, rule: str) -> None:
    outcome = run_rule(find(rule), Target.at(elsewhere, lease=LEASE, grace=GRACE), "seed")

    assert outcome.status is Status.NOT_APPLICABLE
    assert "both name an endpoint" in outcome.reason


@pytest.mark.parametrize("rule", ["BACKEND-FAIL-01", "BACKEND-FAIL-02"])
def test_author_can_give_an_unreachable_url(elsewhere: str, rule: str) -> None:
    nowhere = "elsewhere://jobs:9"
    outcome = run_rule(find(rule), Target.at(elsewhere, unreachable_url=nowhere, lease=LEASE, grace=GRACE), "seed")

    assert outcome.status is Status.PASSED, outcome.reason
