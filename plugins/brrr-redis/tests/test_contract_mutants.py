"""The rules of the kit about a lost server catch a backend on Redis that lacks one precaution."""

import asyncio

import pytest

from brrr_contract_kit import run_contract
from brrr_core.errors import BackendUnavailableError
from brrr_redis.client import client
from brrr_redis.client.commands import Command
from brrr_redis.notifier import RedisNotifier


def repeats_all(patch):
    patch.setattr(Command, "for_retry", lambda self: self)


def raises_errors_of_redis(patch):
    patch.setattr(client, "translate", lambda error, *_: error)


def repeats_without_an_end(patch):
    run = client.Client.run

    async def endless(self, command):
        while True:
            try:
                return await run(self, command)
            except BackendUnavailableError:
                await asyncio.sleep(0.1)

    patch.setattr(client.Client, "run", endless)


def listens_once(patch):
    listen = RedisNotifier._listen

    async def once(self):
        await listen(self)
        return False

    patch.setattr(RedisNotifier, "_listen", once)


@pytest.mark.parametrize(
    ("breaks", "rule", "role"),
    [
        (repeats_all, "CACHE-ANSWER-01", "cache"),
        (repeats_all, "STORE-ANSWER-01", "store"),
        (repeats_all, "STEPS-ANSWER-01", "steps"),
        (raises_errors_of_redis, "BACKEND-SERVER-01", "backend"),
        (repeats_without_an_end, "BACKEND-SERVER-03", "backend"),
        (listens_once, "STORE-WATCH-07", "store"),
    ],
)
def test_rule_catches_a_backend_without_a_precaution(valkey, monkeypatch, breaks, rule, role):
    breaks(monkeypatch)

    report = run_contract(valkey.url, roles=[role], rules=[rule], grace=2)

    (outcome,) = report.outcomes
    assert outcome.status.value == "failed", outcome
