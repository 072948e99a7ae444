"""A rule without a verdict, because the machine stalled, is run again; a broken backend still fails."""

import time

import pytest
from mutants.kit import LEASE, MEMORY, QueueOver, Sound, target_of

from brrr_contract_kit import Status
from brrr_contract_kit.execution import MAX_TRIES, run_rule
from brrr_contract_kit.rules import find


def stalling(times: int) -> type[Sound]:
    """Return a backend that blocks the loop for longer than its lease in its first `times` acknowledgements."""

    class Stalls(QueueOver):
        left = times

        async def ack(self, deliveries):
            if deliveries and type(self).left:
                type(self).left -= 1
                time.sleep(LEASE * 1.2)  # noqa: ASYNC251 - simulates a stalled machine
            await self.inner.ack(deliveries)

    return type("Stalling", (Sound,), {"queue_kind": Stalls})


def test_rule_is_run_again_after_a_stall_expired_a_lease() -> None:
    outcome = run_rule(find("QUEUE-ACK-01"), target_of(stalling(1), MEMORY), "seed")

    assert outcome.status is Status.PASSED, outcome.reason


def test_backend_that_always_stalls_fails() -> None:
    outcome = run_rule(find("QUEUE-ACK-01"), target_of(stalling(100), MEMORY), "seed")

    assert outcome.status is Status.FAILED
    assert f"this machine was too busy {MAX_TRIES} times" in outcome.reason


class FailsWhileStalled(QueueOver):
    runs = 0

    async def put(self, topic, bodies, *, delay=0):
        type(self).runs += 1
        time.sleep(0.3)  # noqa: ASYNC251 - simulates a stalled machine
        await self.inner.put(topic, [], delay=delay)


@pytest.mark.parametrize("rule", ["QUEUE-WAIT-01"])
def test_failure_during_stalls_is_retried_and_then_reported(rule: str) -> None:
    kind = type("Failing", (Sound,), {"queue_kind": FailsWhileStalled})

    outcome = run_rule(find(rule), target_of(kind, MEMORY), "seed")

    assert FailsWhileStalled.runs == MAX_TRIES
    assert outcome.status is Status.FAILED
