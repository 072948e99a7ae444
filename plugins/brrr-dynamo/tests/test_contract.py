"""The contract kit on DynamoDB Local, on an account, or on the emulator that the environment names.

It does not run on moto, which loses concurrent counts, because a single rule of the kit cannot be skipped.
"""

import os
from secrets import token_hex

import pytest

from brrr_contract_kit import BackendContract, CacheContract, StoreContract
from brrr_contract_kit.target import GRACE
from brrr_testkit.processes import missing
from brrr_testkit.servers import dynamodb_local
from brrr_testkit.servers.aws import GIVEN_DYNAMO, REAL, dynamo_url

if not REAL and GIVEN_DYNAMO not in os.environ:
    try:
        dynamodb_local.command(0)
    except dynamodb_local.UnavailableError as error:
        missing(f"no DynamoDB Local: {error}")


class Dynamo:
    grace = 20.0 if REAL else GRACE  # an account responds more slowly

    @pytest.fixture
    def url(self, shared_url):
        return shared_url


class TestStore(Dynamo, StoreContract):
    pass


class TestCache(Dynamo, CacheContract):
    pass


class TestBackend(Dynamo, BackendContract):
    @pytest.fixture
    def fresh_url(self, dynamo_endpoint, aws_prefix):
        return lambda: dynamo_url(f"{aws_prefix}fresh-{token_hex(4)}", dynamo_endpoint)
