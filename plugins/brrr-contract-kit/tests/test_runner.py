"""The kit without pytest: the rules that it runs, its reports, and its clean-up."""

import json
import subprocess
import sys
from asyncio import CancelledError
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from mutants.kit import MEMORY, CacheOver, Sound, target_of

from brrr_contract_kit import BackendContract, Report, Status, run_codec_contract, run_contract
from brrr_contract_kit.execution import run_rule
from brrr_contract_kit.registry import rule
from brrr_contract_kit.rules import find
from brrr_contract_kit.target import Target
from brrr_core.backend import Backend, BackendManifest, BackendUrl, Cache, Queue, Roles, Steps, Store
from brrr_core.backend.memory import MemoryBackend, forget
from brrr_core.backend.memory.space import named
from brrr_core.errors import ContractError
from brrr_core.plugins import rescan


def hollow(kind: type) -> Any:
    """Return an implementation whose methods do nothing."""

    async def nothing(self: object, *args: object, **kwargs: object) -> None:
        pass

    return type(f"Hollow{kind.__name__}", (kind,), dict.fromkeys(kind.__abstractmethods__, nothing))()


class Hollow(Backend):
    manifest = MEMORY

    async def start(self) -> Roles:
        return Roles(queue=hollow(Queue), store=hollow(Store), cache=hollow(Cache), steps=hollow(Steps))

    async def stop(self) -> None:
        pass


def test_empty_implementation_passes_no_rule_of_queue_store_cache_or_steps() -> None:
    target = Target.made_by(Hollow, grace=0.01)

    report = run_contract(target, roles=["queue", "store", "cache", "steps"])

    assert not report.ok
    # Rules that demand an error fail too, since an empty implementation refuses nothing.
    assert [outcome.rule.id for outcome in report.of(Status.PASSED)] == []


class Stepless(MemoryBackend):
    async def start(self) -> Roles:
        return replace(await super().start(), steps=None)


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        (MEMORY, "the backend offers no steps"),
        (replace(MEMORY, cache=None), "the manifest does not offer queue, store and cache"),
    ],
)
def test_rules_of_steps_do_not_apply_to_a_backend_without_steps(manifest: BackendManifest, reason: str) -> None:
    outcome = run_rule(find("STEPS-APPLY-01"), target_of(Stepless, manifest), "seed")

    assert (outcome.status, outcome.reason) == (Status.NOT_APPLICABLE, reason)


def test_rules_of_steps_cannot_be_skipped() -> None:
    with pytest.raises(ContractError, match="STEPS-APPLY-01 applies to every backend and cannot be skipped"):
        run_contract("memory:", skips={"STEPS-APPLY-01": "slow"})


def test_class_of_a_backend_runs_the_rules_of_its_steps() -> None:
    assert find("STEPS-APPLY-01") in BackendContract.rules()


def test_steps_without_all_roles_fail_a_rule() -> None:
    class NoCache(MemoryBackend):
        async def start(self) -> Roles:
            return replace(await super().start(), cache=None)

    outcome = run_rule(find("BACKEND-OPEN-04"), target_of(NoCache, replace(MEMORY, cache=None)), "seed")

    assert outcome.status is Status.FAILED
    assert "the backend offers steps, but the manifest does not declare all roles" in outcome.reason


def test_run_in_which_no_rule_applies_is_not_ok() -> None:
    report = run_contract("memory:", rules=["QUEUE-PROC-01"])

    assert [outcome.status for outcome in report.outcomes] == [Status.NOT_APPLICABLE]
    assert not report.ok
    assert not Report("nothing", "seed", []).ok


@pytest.mark.parametrize("capability", ["queue.delayed", "delay", "queue.max_body", "backend.shared"])
def test_rule_with_a_misspelt_capability_is_refused(capability: str) -> None:
    async def anything(ctx: object) -> None:
        """It holds.

        Why: It must.

        Test: It does.
        """

    with pytest.raises(ContractError, match="names the unknown capability"):
        rule("QUEUE-NEW-01", needs=capability)(anything)
    with pytest.raises(ContractError, match="QUEUE-NEW-01"):
        find("QUEUE-NEW-01")


def test_rule_without_a_reason_is_refused() -> None:
    async def unexplained(ctx: object) -> None:
        """It holds."""

    with pytest.raises(ContractError, match="lacks a part"):
        rule("QUEUE-NEW-01")(unexplained)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"roles": ["qeue"]}, "the contract has no role 'qeue'"),
        ({"roles": ["codec"]}, "offers no codec"),
        ({"rules": ["QUEUE-LEASE-3"]}, "Did you mean QUEUE-LEASE-0"),
        ({"rules": ["STORE-SWAP-01"], "roles": ["queue"]}, "the tested roles do not include STORE-SWAP-01"),
        ({"skips": {"QUEUE-ACK-01": "slow"}}, "cannot be skipped"),
        ({"expected_failures": {"QUEUE-ACK-01": ""}}, "is excepted without a reason"),
        ({"unreachable_url": "redis://localhost"}, "has another scheme"),
    ],
)
def test_run_with_invalid_arguments_is_refused(arguments: dict[str, Any], error: str) -> None:
    with pytest.raises(ContractError, match=error):
        run_contract("memory:", **arguments)


def test_backend_without_a_manifest_is_refused() -> None:
    def bare() -> Backend:
        return MemoryBackend(BackendUrl("memory"))

    with pytest.raises(ContractError, match="carries no manifest"):
        Target.made_by(bare)


class StrayCancellation(CacheOver):
    async def increment(self, amounts: object) -> dict[str, int]:
        raise CancelledError


def test_cancelled_error_without_a_cancellation_fails_the_rule() -> None:
    kind = type("Stray", (Sound,), {"cache_kind": StrayCancellation})

    outcome = run_rule(find("CACHE-COUNT-01"), target_of(kind, MEMORY), "seed")

    assert outcome.status is Status.FAILED
    assert "an operation that was not cancelled raised a CancelledError" in outcome.reason


@pytest.fixture
def space() -> Iterator[str]:
    yield "left-behind"
    forget("left-behind")


def test_run_cleans_up_its_topics_records_and_counters(space: str) -> None:
    from time import monotonic

    report = run_contract(f"memory:{space}", roles=["queue", "store", "cache"], lease=0.3)
    left = named(space, monotonic)

    assert report.ok, report.text()
    assert left.topics == {}
    assert left.records == {}
    assert set(left.counters.values()) <= {0}


def test_report_renders_as_text_json_and_badge() -> None:
    report = run_contract("memory:?lease=20s", roles=["cache"], seed="abc")
    said = json.loads(report.json())
    badge = ElementTree.fromstring(report.badge())

    assert report.text().startswith("memory:?lease=20s, seed abc")
    assert "CACHE-RACE-03" in report.text()
    assert "(the manifest does not declare cache.shared)" in report.text()
    assert (said["ok"], said["complete"], said["counts"]["passed"]) == (True, True, len(report.of(Status.PASSED)))
    assert {each["id"]: each["status"] for each in said["rules"]}["CACHE-RACE-03"] == "not applicable"
    assert badge.get("aria-label") == f"brrr contract: {said['counts']['passed']}/{said['counts']['passed']} rules"


def test_partial_report_says_that_it_is_partial() -> None:
    report = run_codec_contract("json", rules=["CODEC-HASH-03"])

    assert report.ok
    assert report.summary == "partial run: no rule is broken: 1 passed"
    assert "partial" in report.badge()


def test_expected_failure_that_passes_is_not_ok() -> None:
    report = run_contract("memory:", rules=["CACHE-COUNT-01"], expected_failures={"CACHE-COUNT-01": "known"})

    assert not report.ok
    assert "expected to fail (known), but passed" in report.text()


HEAVY = """
import brrr_client_library
from dataclasses import replace
from brrr_core.plugins.builtin import MEMORY
MANIFEST = replace(MEMORY, schemes=("heavy",), example="heavy:", backend="brrr_heavy.backend:Backend")
"""


def test_manifest_that_imports_a_client_library_fails_the_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brrr_client_library.py").write_text("")
    (tmp_path / "brrr_heavy").mkdir()
    (tmp_path / "brrr_heavy" / "__init__.py").write_text("")
    (tmp_path / "brrr_heavy" / "manifest.py").write_text(HEAVY)
    (tmp_path / "brrr_heavy" / "backend.py").write_text("from brrr_core.backend.memory import MemoryBackend as Backend")
    metadata = tmp_path / "brrr_heavy-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: brrr-heavy\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[brrr.backends]\nheavy = brrr_heavy.manifest:MANIFEST\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    rescan()
    try:
        outcome = run_rule(find("BACKEND-MANIFEST-02"), Target.at("heavy:"), "seed")
    finally:
        monkeypatch.undo()
        rescan()

    assert outcome.status is Status.FAILED
    assert "['brrr_client_library']" in outcome.reason


WITHOUT_PYTEST = """
import sys
import brrr_core
assert not [name for name in sys.modules if name.startswith("brrr_contract_kit")]
sys.modules["pytest"] = None
from brrr_contract_kit import run_contract
assert run_contract("memory:", rules=["CACHE-COUNT-01"]).ok
try:
    from brrr_contract_kit import QueueContract
except Exception as error:
    print(error)
"""


def test_only_the_test_classes_need_pytest() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT_PYTEST], capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    assert (
        'QueueContract needs pytest, which is not installed. Install it: pip install "brrr-contract-kit[pytest]".'
        in ran.stdout
    )
