"""The contract kit on a cluster of three servers, with three replicas of each stream."""

import pytest

from brrr_contract_kit import BackendContract, CacheContract, QueueContract, StoreContract
from brrr_testkit.servers.nats import nats_program

nats_program()  # skips the whole module without a server, as no single rule may be skipped


@pytest.fixture(scope="module", autouse=True)
def forgotten(shared_cluster):
    """Delete the streams: hundreds of replicated topics would keep exchanging messages."""
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
