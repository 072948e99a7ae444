"""A session that the program has replaces the credentials and the region of the environment."""

from typing import Any

import pytest
from aiobotocore.session import AioSession

import brrr_core as brrr
from brrr_contract_kit import run_contract
from brrr_contract_kit.target import Target
from brrr_core.backend import Backend
from brrr_core.errors import OptionError


@pytest.fixture
def session(sqs_endpoint, monkeypatch) -> Any:
    """A session with credentials and a region. The environment has neither."""
    if sqs_endpoint is None:
        pytest.skip("needs an emulator, which accepts any credentials")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    session = AioSession()
    session.set_credentials("AKIDTEST", "test-secret-access-key")
    session.set_config_variable("region", "us-east-1")
    return session


async def test_backend_with_a_session_sends_and_receives(aws_prefix, sqs_endpoint, session, topic):
    async with brrr.open_backend(f"sqs://{aws_prefix.rstrip('-')}", endpoint=sqs_endpoint, session=session) as backend:
        await backend.queue.put(topic, [b"x"])
        (found,) = await backend.queue.receive(topic, limit=1, wait=10)
        assert found.body == b"x"
        await backend.queue.ack([found])


@pytest.mark.parametrize("rule", ["QUEUE-LEASE-01", "QUEUE-ACK-01", "BACKEND-CLEAN-01"])
def test_rules_hold_with_a_session(aws_prefix, sqs_endpoint, session, rule):
    def make(lease: float | None = None) -> Backend:
        options: dict[str, object] = {} if lease is None else {"lease": f"{lease}s"}
        return brrr.open_backend(f"sqs://{aws_prefix.rstrip('-')}", endpoint=sqs_endpoint, session=session, **options)

    report = run_contract(Target.made_by(make), rules=[rule])
    assert [outcome.status.value for outcome in report.outcomes] == ["passed"], report


def test_url_cannot_name_a_session():
    with pytest.raises(OptionError, match="the option 'session' of sqs: is"):
        brrr.open_backend("sqs://jobs?session=mine")
