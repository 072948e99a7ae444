"""The contract kit on moto, on an account, or on the emulator that the environment names."""

import pytest

from brrr_contract_kit import BackendContract, QueueContract
from brrr_testkit.servers.aws import REAL


class Sqs:
    grace = 90 if REAL else 5
    """Seconds by which the counts of SQS may lag."""

    @pytest.fixture
    def url(self, shared_url):
        return shared_url


class TestQueue(Sqs, QueueContract):
    pass


class TestBackend(Sqs, BackendContract):
    pass
