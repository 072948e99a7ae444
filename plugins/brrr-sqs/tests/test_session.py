"""A session that the program has replaces the credentials and the region of the environment."""

from typing import Any

import pytest
from aiobotocore.session import AioSession  # type: ignore[import-untyped]

import brrr_core as brrr
from brrr_contract_kit import run_contract
from brrr_contract_kit.target import Target
from brrr_core.backend import Backend
from brrr_core.errors import OptionError
from brrr_testkit.servers.aws import own_session


@pytest.fixture
def session(sqs_endpoint: str | None, monkeypatch: pytest.MonkeyPatch) -> Any:
    return own_session(AioSession(), sqs_endpoint, monkeypatch)


async def test_backend_with_a_session_sends_and_receives(
    aws_prefix: str, sqs_endpoint: Any, session: Any, topic: str
) -> None:
    async with brrr.open_backend(f"sqs://{aws_prefix.rstrip('-')}", endpoint=sqs_endpoint, session=session) as backend:
        await backend.queue.put(topic, [b"x"])
        (found,) = await backend.queue.receive(topic, limit=1, wait=10)
        assert found.body == b"x"
        await backend.queue.ack([found])


@pytest.mark.parametrize("rule", ["QUEUE-LEASE-01", "QUEUE-ACK-01", "BACKEND-CLEAN-01"])
def test_rules_hold_with_a_session(aws_prefix: str, sqs_endpoint: Any, session: Any, rule: Any) -> None:
    def make(lease: float | None = None) -> Backend:
        options: dict[str, object] = {} if lease is None else {"lease": f"{lease}s"}
        return brrr.open_backend(f"sqs://{aws_prefix.rstrip('-')}", endpoint=sqs_endpoint, session=session, **options)

    report = run_contract(Target.made_by(make), rules=[rule])
    assert [outcome.status.value for outcome in report.outcomes] == ["passed"], report


def test_url_cannot_name_a_session() -> None:
    with pytest.raises(OptionError, match="the option 'session' of sqs: is"):
        brrr.open_backend("sqs://jobs?session=mine")
