"""The contract kit on one NATS server, or on what `BRRR_TEST_NATS_URL` names."""

import os

import pytest

from brrr_core.contract import BackendContract, CacheContract, QueueContract, StoreContract
from tests.support.nats_servers import GIVEN, nats_program

if GIVEN not in os.environ:
    nats_program()  # skips the module where there is none: no rule of the kit may be skipped alone


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
