"""The page of public names is up to date, and a change that breaks a user of one is recognised."""

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tools import public_api

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def page() -> str:
    return public_api.page()


def test_page_is_up_to_date(page: str) -> None:
    assert public_api.PAGE.read_text(encoding="utf-8") == page, "run `make docs`"


def copied(folder: Path) -> Path:
    """Copy the packages with public names, so that a test can change them, and return the folder of the core."""
    for package, source in public_api.SOURCES.items():
        place = Path(source, package)
        shutil.copytree(ROOT / place, folder / place, ignore=shutil.ignore_patterns("__pycache__"))
    return folder / "brrr_core"


def test_page_compares_equal_with_itself(page: str) -> None:
    assert public_api.breaks(page, page) == []


BREAKS = [
    ("backend/checks.py", "def check_topic(topic: str)", "def check_topic(name: str)", "check_topic(topic)"),
    ("backend/contracts.py", "    attempt: int\n\n\nc", "    attempt: int\n    tags: str\n\n\nc", "__init__(tags)"),
    ("backend/contracts.py", "    kind: Kind\n    call_hash: str", "    kind: Kind", "Key.call_hash"),
    ("app/active.py", "    def wait(self", "    def wait_for(self", "ActiveWorker.wait"),
    ("app/active.py", "        topic: str | None = None,\n        returns: Any = Any,\n", "", "call(topic)"),
    ("errors.py", '"BRRR-CALL-01"', '"BRRR-CALL-99"', "NotFoundError.code"),
    ("hooks.py", '    "LoopBlocked",\n', "", "LoopBlocked"),
    ("codec/contracts.py", "    def check_task(self, task", "    def check(self, task", "Codec.check_task"),
    ("../plugins/brrr-cli/src/brrr_cli/output.py", "def shown(data", "def shown(text", "brrr_cli.api: shown(data)"),
    ("plugins/loading.py", "def load_claim(claim", "def load_claim(it", "loading, private: load_claim(claim)"),
]
"""Changes of files, each of another name, and a part of the line that reports the break."""

ADDITIONS = [
    ("backend/checks.py", "def check_topic(topic: str)", "def check_topic(topic: str, strict: bool = False)"),
    ("engine/attempts.py", "class Attempts:", "class Counts:"),
    ("backend/checks.py", "MAX_ATTEMPTS", "MOST_ATTEMPTS"),
    ("plugins/scanning.py", '    "sqs": "brrr-sqs",\n', '    "sqs": "brrr-sqs",\n    "new": "brrr-new",\n'),
    ("../plugins/brrr-cli/src/brrr_cli/supervisor.py", "class Supervisor:", "class Keeper:"),
]


def changed_page(folder: Path, changes: Iterable[tuple[str, str, str]]) -> str:
    """Return the page of a copy with all the changes. A page takes a second, so the changes share one."""
    core = copied(folder)
    for file, old, new in changes:
        text = (core / file).read_text(encoding="utf-8")
        assert old in text
        (core / file).write_text(text.replace(old, new), encoding="utf-8")
    return public_api.page(folder)


def test_each_break_is_recognised(tmp_path: Path, page: str) -> None:
    lines = public_api.breaks(page, changed_page(tmp_path, [change[:3] for change in BREAKS]))

    assert [broken for *_, broken in BREAKS if not any(broken in line for line in lines)] == []


def test_additions_and_private_changes_are_not_breaks(tmp_path: Path, page: str) -> None:
    assert public_api.breaks(page, changed_page(tmp_path, ADDITIONS)) == []


def test_removed_module_is_a_break(page: str) -> None:
    rest = page.replace("# module brrr_core.sync\n", "# module brrr_core.other\n")

    assert public_api.breaks(page, rest) == ["brrr_core.sync: the module was removed"]


def test_check_names_the_break_and_the_way_to_accept_it(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(public_api, "page", lambda: page)  # the code has not changed, and each page takes a second
    monkeypatch.setattr(public_api, "PAGE", tmp_path / "page.txt")
    (tmp_path / "page.txt").write_text(page.replace("def check_wait(", "def check_patience("))

    monkeypatch.setattr(sys, "argv", ["public_api.py", "--check"])
    assert public_api.main() == 1
    assert "check_patience" in (printed := capsys.readouterr().out)
    assert "--accept-breaks" in printed
    monkeypatch.setattr(sys, "argv", ["public_api.py"])
    assert public_api.main() == 1
    monkeypatch.setattr(sys, "argv", ["public_api.py", "--accept-breaks"])
    monkeypatch.setattr(public_api, "ROOT", tmp_path)
    assert public_api.main() == 0
    assert (tmp_path / "page.txt").read_text() == page
