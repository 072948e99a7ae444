"""House rules for every file: size, docstring, and no path of a developer's machine."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted([*ROOT.glob("brrr_core/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")])
MOST_LINES = 500

# Spelled so that this file does not find itself.
FOREIGN_PATHS = re.compile(r"(?<![\w.])/(?:work|root|home|Users)/" + r"[\w.]")


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_shipped_code_is_found() -> None:
    assert {"brrr_core/errors.py", "plugins/brrr-sqlite/src/brrr_sqlite/__init__.py"} <= set(names(SHIPPED))


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    assert names([path for path in SHIPPED if len(path.read_text().splitlines()) > MOST_LINES]) == []


def test_every_module_states_its_subject() -> None:
    def subject(path: Path) -> str:
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        return docstring.splitlines()[0] if docstring else ""

    assert names([path for path in SHIPPED if not subject(path).strip()]) == []


def test_every_distribution_is_typed_and_licensed() -> None:
    packages = [ROOT / "brrr_core", *ROOT.glob("plugins/*/src/*/")]
    distributions = [ROOT, *ROOT.glob("plugins/*/")]

    assert names([package for package in packages if not (package / "py.typed").exists()]) == []
    assert names([home for home in distributions if not (home / "LICENSE").exists()]) == []


def tracked_files() -> list[Path]:
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what belongs to the project is not known")
    # New files count before they are added, what is ignored does not.
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_contains_an_absolute_path_of_a_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in tracked_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if FOREIGN_PATHS.search(line)
    ]

    assert found == []


@pytest.mark.parametrize("path", ["/work" + "/main/x.py", '"/root' + "/.cache", "file:///home" + "/me/wheels"])
def test_absolute_path_of_a_machine_is_recognised(path: str) -> None:
    assert FOREIGN_PATHS.search(path)


def test_lock_file_names_public_indexes_only() -> None:
    lock = (ROOT / "uv.lock").read_text()
    hosts = {re.sub(r"https?://([^/]+).*", r"\1", url) for url in re.findall(r'"(https?://[^"]+)"', lock)}

    assert hosts == {"pypi.org", "files.pythonhosted.org"}
    assert not re.findall(r"(?:path|find-links|directory) = .*", lock)


def test_tests_with_random_examples_have_no_deadline() -> None:
    """On a busy machine, an example can take any time."""
    examples = "@" + "given("
    files = [path for path in ROOT.glob("**/tests/**/*.py") if ".venv" not in path.parts]
    counts = {path: (path.read_text().count(examples), path.read_text().count("deadline=None")) for path in files}
    assert len(counts) > 100
    assert names([path for path, (tests, settings) in counts.items() if tests > settings]) == []
