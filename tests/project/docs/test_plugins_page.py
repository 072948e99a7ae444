"""docs/reference/plugins.md lists backends that hold the whole contract, and matches the manifests of this checkout."""

import json
from pathlib import Path
from typing import Any

import pytest

from brrr_core.plugins.scanning import KNOWN_BACKENDS
from tools import plugins_page
from tools.distributions import read_distributions

OURS = [entry for entry in plugins_page.read() if entry["distribution"] in read_distributions()]


def test_page_is_up_to_date() -> None:
    assert plugins_page.PAGE.read_text(encoding="utf-8") == plugins_page.page(plugins_page.read()), "run `make docs`"


def test_data_file_is_as_the_tool_writes_it() -> None:
    assert plugins_page.DATA.read_text(encoding="utf-8") == plugins_page.data(plugins_page.read())


@pytest.mark.parametrize("entry", OURS, ids=lambda entry: entry["schemes"][0])
def test_entry_of_own_backend_matches_its_manifest(entry: dict[str, Any]) -> None:
    assert plugins_page.renewed(entry) == entry, "run `make docs`"


def test_entry_of_other_backend_needs_no_plugin_here() -> None:
    other = {**OURS[0], "distribution": "brrr-other", "schemes": ["other"]}

    assert plugins_page.renewed(other) == other


def test_errors_know_how_to_install_each_backend_of_the_page() -> None:
    listed = {scheme: entry["distribution"] for entry in plugins_page.read() for scheme in entry["schemes"]}

    assert listed.items() <= KNOWN_BACKENDS.items(), "add the scheme to KNOWN_BACKENDS"


@pytest.mark.parametrize("entry", plugins_page.read(), ids=lambda entry: entry["schemes"][0])
def test_listed_backend_holds_the_contract(entry: dict[str, Any]) -> None:
    assert list(plugins_page.defects(entry)) == []


REPORT = {
    "target": "memory:",
    "ok": True,
    "complete": True,
    "counts": {"passed": 2, "failed": 0, "skipped": 0, "expected failure": 0, "not applicable": 1},
    "rules": [{"role": "queue", "status": "passed"}, {"role": "steps", "status": "passed"}],
}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(plugins_page, "DATA", tmp_path / "plugins.toml")
    monkeypatch.setattr(plugins_page, "PAGE", tmp_path / "plugins.md")
    (tmp_path / "plugins.toml").write_text("")
    return tmp_path


def add(desk: Path, **changes: object) -> int:
    (desk / "report.json").write_text(json.dumps({**REPORT, **changes}))
    return plugins_page.main([str(desk / "report.json")])


def test_report_of_whole_run_adds_entry_with_manifest_and_result(desk: Path) -> None:
    assert add(desk) == add(desk) == 0  # the second time, the entry is renewed

    [entry] = plugins_page.read()
    assert (entry["distribution"], entry["schemes"], entry["contract"]) == ("brrr-core", ["memory"], 1)
    assert entry["kit"]["rules"] == {"passed": 2, "not applicable": 1}
    assert entry["queue"]["delay"] is True
    assert "queue, store, cache, steps | 1 | 2 | 1 |" in (desk / "plugins.md").read_text()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ok": False, "counts": {"passed": 1, "failed": 1}}, "1 rules have the result 'failed'"),
        ({"counts": {"passed": 1, "skipped": 2}}, "2 rules have the result 'skipped'"),
        ({"counts": {"passed": 1, "expected failure": 1}}, "1 rules have the result 'expected failure'"),
        ({"complete": False}, "the run of the kit was partial"),
        ({"counts": {}}, "no rule passed"),
    ],
)
def test_backend_that_does_not_hold_the_whole_contract_is_refused(
    desk: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], reason: str
) -> None:
    assert add(desk, **changes) == 1

    assert f"brrr-core (memory): {reason}" in capsys.readouterr().err
    assert plugins_page.read() == []
    assert not (desk / "plugins.md").exists()


def test_capabilities_are_shown_with_their_units() -> None:
    role = {"durable": True, "shared": False, "resolution": 1.5, "clock": "server", "max_body": 983040}

    assert plugins_page.capabilities(role) == "durable, resolution 1.5 s, clock server, max_body 960 KiB"
    assert plugins_page.capabilities({"durable": False, "resolution": 0.0}) == "none"
