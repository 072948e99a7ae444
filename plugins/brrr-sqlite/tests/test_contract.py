"""The contract kit passes, including all capabilities that the manifest declares."""

import pytest

from brrr_contract_kit import BackendContract, CacheContract, QueueContract, StoreContract


class Sqlite:
    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path}/brrr.db"


class TestQueue(Sqlite, QueueContract):
    pass


class TestStore(Sqlite, StoreContract):
    pass


class TestCache(Sqlite, CacheContract):
    pass


class TestBackend(Sqlite, BackendContract):
    unreachable_url = "sqlite:////dev/null/brrr.db"
