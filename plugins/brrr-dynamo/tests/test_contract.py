"""The contract kit on DynamoDB Local, or what stands in for it."""

import pytest

from brrr_core.contract import BackendContract, CacheContract, StoreContract


class Dynamo:
    @pytest.fixture
    def url(self, shared_url):
        return shared_url


class TestStore(Dynamo, StoreContract):
    pass


class TestCache(Dynamo, CacheContract):
    pass


class TestBackend(Dynamo, BackendContract):
    pass
