"""The contract kit on Valkey, or on the server that `BRRR_TEST_REDIS_URL` names."""

import os

import pytest

from brrr_contract_kit import BackendContract, CacheContract, QueueContract, StoreContract
from brrr_testkit.servers.redis import GIVEN, valkey_program

if GIVEN not in os.environ:
    valkey_program()  # skips the module if there is no server: no rule of the kit may be skipped alone


class Valkey:
    @pytest.fixture
    def url(self, any_valkey_url):
        return any_valkey_url


class TestQueue(Valkey, QueueContract):
    pass


class TestStore(Valkey, StoreContract):
    pass


class TestCache(Valkey, CacheContract):
    pass


class TestBackend(Valkey, BackendContract):
    pass
