"""The contract kit on a cluster of three servers, each of which keeps everything."""

import pytest

from brrr_core.contract import BackendContract, CacheContract, QueueContract, StoreContract
from tests.support.nats_servers import nats_program

nats_program()  # skips the module where there is none: no rule of the kit may be skipped alone


@pytest.fixture(scope="module", autouse=True)
def forgotten(shared_cluster):
    """Hundreds of topics are left, whose replicas ask after each other for as long as they are there."""
    yield
    shared_cluster.servers[0].forget("")


class ThreeServers:
    @pytest.fixture
    def url(self, shared_cluster):
        return f"{shared_cluster.url}?replicas=3"


class TestQueue(ThreeServers, QueueContract):
    pass


class TestStore(ThreeServers, StoreContract):
    pass


class TestCache(ThreeServers, CacheContract):
    pass


class TestBackend(ThreeServers, BackendContract):
    pass
