"""A machine that is too busy is no verdict: the rule is run again, and a backend that is to blame still fails."""

import time

import pytest
from mutants.kit import LEASE, QueueOver, Sound, target_of

from brrr_core.contract import Status
from brrr_core.contract.registry import find
from brrr_core.contract.runner import TRIES, run_rule
from brrr_core.plugins.builtin import MEMORY


def stalling(times: int) -> type[Sound]:
    """A backend that blocks the loop beyond its lease in so many acks."""

    class Stalls(QueueOver):
        left = times

        async def ack(self, deliveries):
            if deliveries and type(self).left:
                type(self).left -= 1
                time.sleep(LEASE * 1.2)  # noqa: ASYNC251 - the machine's hiccup
            await self.inner.ack(deliveries)

    return type("Stalling", (Sound,), {"queue_kind": Stalls})


def test_a_rule_is_run_again_when_a_lease_ran_out_meanwhile() -> None:
    outcome = run_rule(find("QUEUE-ACK-01"), target_of(stalling(1), MEMORY), "seed")

    assert outcome.status is Status.PASSED, outcome.reason


def test_a_backend_that_always_stalls_fails() -> None:
    outcome = run_rule(find("QUEUE-ACK-01"), target_of(stalling(100), MEMORY), "seed")

    assert outcome.status is Status.FAILED
    assert f"{TRIES} times this machine was too busy" in outcome.reason


class FailsWhileStalled(QueueOver):
    runs = 0

    async def put(self, topic, bodies, *, delay=0):
        type(self).runs += 1
        time.sleep(0.3)  # noqa: ASYNC251 - the machine's hiccup
        await self.inner.put(topic, [], delay=delay)


@pytest.mark.parametrize("rule", ["QUEUE-WAIT-01"])
def test_a_failure_while_the_loop_stood_still_is_tried_again_and_then_stands(rule: str) -> None:
    kind = type("Failing", (Sound,), {"queue_kind": FailsWhileStalled})

    outcome = run_rule(find(rule), target_of(kind, MEMORY), "seed")

    assert FailsWhileStalled.runs == TRIES
    assert outcome.status is Status.FAILED
