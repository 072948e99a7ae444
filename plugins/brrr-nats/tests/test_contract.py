"""The contract kit on one NATS server, or on the one that `BRRR_TEST_NATS_URL` names."""

import os
from secrets import token_hex

import pytest

from brrr_contract_kit import BackendContract, CacheContract, QueueContract, StoreContract, run_contract
from brrr_testkit.servers.nats import GIVEN, Server, nats_program

if GIVEN not in os.environ:
    nats_program()  # skips the whole module without a server, as no single rule may be skipped


class Nats:
    @pytest.fixture
    def url(self, any_url):
        return any_url


class TestQueue(Nats, QueueContract):
    pass


class TestStore(Nats, StoreContract):
    pass


class TestCache(Nats, CacheContract):
    pass


class TestBackend(Nats, BackendContract):
    @pytest.fixture
    def fresh_url(self, any_url):
        mark = "&" if "?" in any_url else "?"
        return lambda: f"{any_url}{mark}stream=fresh-{(name := token_hex(4))}&bucket=fresh-{name}"


def test_rules_hold_on_a_server_with_a_password(tmp_path):
    server = Server(tmp_path / "locked", config="authorization { user: worker, password: a-l0ng-s3cret }").start()
    try:
        report = run_contract(
            server.url.replace("//", "//worker:a-l0ng-s3cret@"),
            roles=["backend"],
            rules=["BACKEND-SECRET-01", "BACKEND-SECRET-02", "BACKEND-SERVER-01", "BACKEND-SERVER-02"],
        )
    finally:
        server.kill()

    assert {outcome.status.value for outcome in report.outcomes} == {"passed"}, report.text()
