"""The rules of the kit about a lost server, and about secrets, catch a backend on Redis that lacks one precaution."""

import asyncio
import logging

import pytest

from brrr_contract_kit import run_contract
from brrr_core.errors import BackendUnavailableError
from brrr_redis.client import client, login
from brrr_redis.client.commands import Command
from brrr_redis.notifier import RedisNotifier
from brrr_testkit.servers.redis import Server, valkey_program


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


def loses_hints_with_the_connection(patch):
    patch.setattr(RedisNotifier, "_wake_all", lambda self, listener: None)


def logs_its_login(patch):
    transport = login.Connector._transport

    def logs(self, address):
        logging.getLogger("client").debug("HELLO 2 AUTH %s", self._settings.arguments["password"])
        return transport(self, address)

    patch.setattr(login.Connector, "_transport", logs)


@pytest.mark.parametrize(
    ("breaks", "rule", "role"),
    [
        (repeats_all, "CACHE-ANSWER-01", "cache"),
        (repeats_all, "STORE-ANSWER-01", "store"),
        (repeats_all, "STEPS-ANSWER-01", "steps"),
        (raises_errors_of_redis, "BACKEND-SERVER-01", "backend"),
        (repeats_without_an_end, "BACKEND-SERVER-03", "backend"),
        (loses_hints_with_the_connection, "STORE-WATCH-07", "store"),
        (logs_its_login, "BACKEND-SECRET-02", "backend"),
    ],
)
def test_rule_catches_a_backend_without_a_precaution(valkey, monkeypatch, breaks, rule, role):
    breaks(monkeypatch)

    report = run_contract(valkey.url, roles=[role], rules=[rule], grace=2)

    (outcome,) = report.outcomes
    assert outcome.status.value == "failed", outcome


def test_rules_hold_on_a_server_with_a_password(tmp_path):
    server = Server(valkey_program(), tmp_path / "locked", "--requirepass", "a-l0ng-s3cret").start()
    try:
        report = run_contract(
            f"redis://:a-l0ng-s3cret@127.0.0.1:{server.port}/0",
            roles=["backend"],
            rules=["BACKEND-SECRET-01", "BACKEND-SECRET-02", "BACKEND-SERVER-01", "BACKEND-SERVER-02"],
        )
    finally:
        server.kill()

    assert {outcome.status.value for outcome in report.outcomes} == {"passed"}, report.text()
