"""The contract kit on one NATS server, or on the one that `BRRR_TEST_NATS_URL` names."""

import os

import pytest

from brrr_contract_kit import BackendContract, CacheContract, QueueContract, StoreContract
from brrr_testkit.servers.nats import GIVEN, nats_program

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
    pass
