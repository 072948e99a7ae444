"""The contract kit on a cluster of three servers."""

import pytest

from brrr_contract_kit import BackendContract, CacheContract, QueueContract, StoreContract
from brrr_testkit.servers.redis import valkey_program

valkey_program()  # skips the module if there is no server: no rule of the kit may be skipped alone


class ThreeServers:
    @pytest.fixture
    def url(self, whole_cluster):
        return whole_cluster.url


class TestQueue(ThreeServers, QueueContract):
    pass


class TestStore(ThreeServers, StoreContract):
    pass


class TestCache(ThreeServers, CacheContract):
    pass


class TestBackend(ThreeServers, BackendContract):
    pass
