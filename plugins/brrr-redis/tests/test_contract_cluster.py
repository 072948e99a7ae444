"""The contract kit on a cluster of three servers."""

import re

import pytest

from brrr_contract_kit import BackendContract, CacheContract, QueueContract, StoreContract
from brrr_testkit.servers.redis import valkey_program

valkey_program()  # skips the module if there is no server: no rule of the kit may be skipped alone


class ThreeServers:
    @pytest.fixture
    def url(self, whole_cluster):
        return whole_cluster.url

    @pytest.fixture
    def readdress(self):
        """The servers announce each other: `CLUSTER SLOTS` has ports as numbers, and redirections have addresses."""

        def readdress(answer, relays):
            for server, relay in relays.items():
                port, other = (each.rpartition(":")[2] for each in (server, relay))
                answer = answer.replace(f"\r\n:{port}\r\n".encode(), f"\r\n:{other}\r\n".encode())
                answer = re.sub(
                    rb"(?m)^(-(?:MOVED|ASK) \d+ )%s\r$" % server.encode(), rb"\g<1>%s\r" % relay.encode(), answer
                )
            return answer

        return readdress


class TestQueue(ThreeServers, QueueContract):
    pass


class TestStore(ThreeServers, StoreContract):
    pass


class TestCache(ThreeServers, CacheContract):
    pass


class TestBackend(ThreeServers, BackendContract):
    pass
