"""The contract kit on the oldest Redis that is supported."""

import pytest

from brrr_contract_kit import BackendContract, CacheContract, QueueContract, StoreContract
from brrr_testkit.servers.redis import redis_program

redis_program()  # skips the module if there is no server: no rule of the kit may be skipped alone


class Redis62:
    @pytest.fixture
    def url(self, old_server):
        return old_server.url


class TestQueue(Redis62, QueueContract):
    pass


class TestStore(Redis62, StoreContract):
    pass


class TestCache(Redis62, CacheContract):
    pass


class TestBackend(Redis62, BackendContract):
    pass
