"""Before the rules, the backend is opened and used once: one error instead of a failure of every rule."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mutants.kit import MEMORY, QueueOver, Sound, target_of

from brrr_contract_kit import Outcome, run_contract
from brrr_core.errors import BackendError, BackendRefusedError, BackendUnavailableError, ContractError, RuleBrokenError


def fail(error: Exception) -> type[Sound]:
    """Return a backend whose `start` raises the error."""

    class Fails(Sound):
        async def start(self) -> Any:
            raise error

    return Fails


def fail_to_put(error: Exception) -> type[Sound]:
    """Return a backend that opens, and whose `put` raises the error."""

    class FailsToPut(QueueOver):
        async def put(self, topic: str, bodies: object, *, delay: float = 0) -> None:
            raise error

    return type("Fails", (Sound,), {"queue_kind": FailsToPut})


class WithoutCache(Sound):
    async def start(self) -> Any:
        return replace(await super().start(), cache=None, steps=None)


AWAY = BackendUnavailableError("nothing answers at host:1", remedy="Start the server.")
REFUSED = BackendRefusedError("the password is wrong", remedy="Correct it.")
MISSING = BackendError("there is no table brrr", remedy="Create it.")


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        (fail(AWAY), BackendUnavailableError, "nothing answers at host:1. Start the server."),
        (fail(REFUSED), BackendRefusedError, "the password is wrong. Correct it."),
        (fail_to_put(MISSING), BackendError, "there is no table brrr. Create it."),
        (WithoutCache, ContractError, "the manifest declares a cache, but the open backend offers none."),
        (fail(KeyError("x")), RuleBrokenError, "opening the backend raised KeyError: 'x'."),
    ],
)
def test_backend_that_cannot_be_used_is_one_error_and_runs_no_rule(
    kind: type[Sound], error: type[Exception], text: str
) -> None:
    ran: list[Outcome] = []
    report = run_contract(target_of(kind, MEMORY), progress=ran.append)

    assert ran == []
    assert not report.ok
    assert type(report.error) is error
    assert text in report.text()
    assert f'"code": "{report.error.code}"' in report.json()


def test_preflight_ignores_bugs_that_rules_find() -> None:
    report = run_contract(target_of(fail_to_put(KeyError("x")), MEMORY), rules=["QUEUE-ACK-01", "CACHE-COUNT-01"])

    assert report.error is None
    assert report.counts == "1 passed, 1 failed"


def test_unavailable_server_is_tried_only_once() -> None:
    class Patient(fail(AWAY)):  # type: ignore[misc]
        retry_for = 600.0

    assert isinstance(run_contract(target_of(Patient, MEMORY)).error, BackendUnavailableError)


def test_setup_creates_what_the_backend_needs(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/brrr.db"
    before = run_contract(url, rules=["CACHE-COUNT-01"])
    after = run_contract(url, rules=["CACHE-COUNT-01"], setup=True)

    assert "create them first: `brrr contract --setup`" in before.text()
    assert after.ok
