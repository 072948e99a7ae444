"""A session that the program has replaces the credentials and the region of the environment."""

from typing import Any

import pytest
from aiobotocore.session import AioSession  # type: ignore[import-untyped]

import brrr_core as brrr
from brrr_contract_kit import run_contract
from brrr_contract_kit.target import Target
from brrr_core.backend import Backend, Key
from brrr_core.errors import OptionError
from brrr_testkit.servers.aws import own_session


@pytest.fixture
def session(dynamo_endpoint: str | None, monkeypatch: pytest.MonkeyPatch) -> Any:
    return own_session(AioSession(), dynamo_endpoint, monkeypatch)


async def test_backend_with_a_session_reads_and_writes(
    table: str, dynamo_endpoint: Any, session: Any, prefix: str
) -> None:
    key = Key("value", prefix)
    async with brrr.open_backend(f"dynamo://{table}", endpoint=dynamo_endpoint, session=session) as backend:
        await backend.store.write([(key, b"x")])
        assert await backend.store.read([key]) == [b"x"]
        assert await backend.cache.increment({prefix: 2}) == {prefix: 2}


@pytest.mark.parametrize("rule", ["STORE-SWAP-01", "CACHE-COUNT-01", "BACKEND-CLEAN-01"])
@pytest.mark.usefixtures("_not_moto")
def test_rules_hold_with_a_session(table: str, dynamo_endpoint: Any, session: Any, rule: Any) -> None:
    def make() -> Backend:
        return brrr.open_backend(f"dynamo://{table}", endpoint=dynamo_endpoint, session=session)

    report = run_contract(Target.made_by(make), rules=[rule])
    assert [outcome.status.value for outcome in report.outcomes] == ["passed"], report


def test_url_cannot_name_a_session() -> None:
    with pytest.raises(OptionError, match="the option 'session' of dynamo: is"):
        brrr.open_backend("dynamo://jobs?session=mine")
