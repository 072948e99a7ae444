"""The template creates a backend plugin that is small, clean, named by its answers, and correct in edge cases."""

import ast
import importlib
import io
import os
import shutil
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import copier
import pytest
import yaml

from brrr_core.backend import Key
from brrr_core.errors import ArgumentError, BackendUnavailableError, CorruptBackendError, OptionError, UrlError
from brrr_core.plugins import open_backend, register, unregister

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "templates/backend"
BIN = Path(sys.executable).parent
MOST_LINES = 250
PAGE = ROOT / "docs/how-to/write-a-backend.md"


def made(folder: Path, *, template: Path = TEMPLATE, **answers: str) -> Path:
    copier.run_copy(str(template), folder, data=answers, defaults=True, quiet=True)
    return folder


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("template") / "brrr-example")


def code_lines(source: str) -> int:
    """Count the lines of code, without blank lines, comments and docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    beside = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type not in beside]
    return len({line for token in tokens for line in range(token.start[0], token.end[0] + 1)} - docstrings)


def test_code_lines_counts_only_code() -> None:
    assert (
        code_lines('"""Says\n\nmuch."""\n\n# a word\nx = [\n    1,  # one\n]\n\n\ndef f():\n    """Nothing."""\n') == 4
    )


def test_plugin_has_under_250_lines_as_page_says(example: Path) -> None:
    lines = sum(code_lines(path.read_text()) for path in (example / "src").rglob("*.py"))

    assert lines < MOST_LINES
    assert f"under {MOST_LINES} lines of Python over a plain file" in " ".join(PAGE.read_text().split())


def test_plugin_is_complete_distribution(example: Path) -> None:
    project = tomllib.loads((example / "pyproject.toml").read_text())["project"]

    assert {str(path.relative_to(example)) for path in example.rglob("*") if path.is_file()} == {
        *(".copier-answers.yml", ".github/workflows/ci.yml", ".gitignore", "CHANGELOG.md", "LICENSE", "README.md"),
        *("pyproject.toml", "tests/conftest.py", "tests/test_contract.py"),
        *(f"src/brrr_example/{name}.py" for name in ("__init__", "backend", "file", "manifest", "queue", "store")),
        "src/brrr_example/py.typed",
    }
    assert project["name"] == "brrr-example"
    assert project["entry-points"]["brrr.backends"] == {"example": "brrr_example.manifest:MANIFEST"}
    assert "brrr-core>=0.1,<0.2" in project["dependencies"]


def workflow(plugin: Path) -> dict[str, Any]:
    """Return the only job of the plugin's CI workflow."""
    [job] = yaml.safe_load((plugin / ".github/workflows/ci.yml").read_text())["jobs"].values()
    assert isinstance(job, dict)
    return job


def test_plugin_passes_our_linters_and_those_of_its_own_workflow(example: Path) -> None:
    own = [step["run"].split() for step in workflow(example)["steps"] if "run" in step]
    linters = [command for command in own if command[0] in {"ruff", "mypy"}]
    assert linters == [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]]

    ours = f"--config={ROOT / 'pyproject.toml'}"
    for command in (["ruff", "check", ours, "--quiet", "src"], *linters):
        # Run in the plugin's folder, so that brrr_core counts as a third-party package.
        ended = subprocess.run(
            [BIN / command[0], *command[1:]],
            cwd=example,
            env={**os.environ, "RUFF_NO_CACHE": "true", "MYPY_CACHE_DIR": f"{example.parent}/mypy"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_actions_of_plugins_workflow_are_those_of_ours(example: Path) -> None:
    ours = (ROOT / ".github/workflows/ci.yml").read_text()
    actions = [step["uses"] for step in workflow(example)["steps"] if "uses" in step]

    assert len(actions) == 2
    assert [action for action in actions if f"uses: {action} #" not in ours] == []
    assert workflow(example)["strategy"]["matrix"]["python"] == ["3.11", "3.14"]


def test_plugin_pins_the_linters_that_we_use(example: Path) -> None:
    extras = tomllib.loads((example / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]

    assert [pin for pin in extras["lint"] if pin not in ours["dev"]] == []
    assert [pin for pin in extras["test"] if pin.startswith("pytest") and pin not in ours["test"]] == []


def test_names_follow_from_distribution(tmp_path: Path) -> None:
    folder = made(tmp_path / "mine", distribution="brrr-my-own")

    assert "class MyOwnBackend(Backend)" in (folder / "src/brrr_my_own/backend.py").read_text()
    assert 'my-own = "brrr_my_own.manifest:MANIFEST"' in (folder / "pyproject.toml").read_text()
    texts = [path.read_text() for path in folder.rglob("*") if path.is_file() and path.name != "LICENSE"]
    assert [text for text in texts if "example:" in text or "Example" in text or "brrr_example" in text] == []


def test_scheme_with_plus_is_quoted(tmp_path: Path) -> None:
    folder = made(tmp_path / "mine", scheme="my+tls")

    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["brrr.backends"] == {"my+tls": "brrr_example.manifest:MANIFEST"}


@pytest.mark.parametrize(("license_", "begins"), [("Apache-2.0", "Apache License"), ("MIT", "MIT License")])
def test_chosen_license_is_written(tmp_path: Path, license_: str, begins: str) -> None:
    folder = made(tmp_path / "mine", license=license_, author="Ada Lovelace")

    assert (folder / "LICENSE").read_text().split("\n\n")[0].strip().startswith(begins)
    assert ("Ada Lovelace" in (folder / "LICENSE").read_text()) == (license_ == "MIT")
    assert tomllib.loads((folder / "pyproject.toml").read_text())["project"]["license"] == license_


REFUSED = [
    *(
        ("distribution", wrong)
        for wrong in ("Brrr-x", "brrr_x", "brrr--x", "-x", "brrr-core", "brrr-contract-kit", "brrr-sqlite")
    ),
    *(("scheme", wrong) for wrong in ("Mine", "1x", "a b", "memory", "sqlite", "redis")),
    *(("package", wrong) for wrong in ("brrr-x", "Brrr", "1x", "brrr_core", "brrr_contract_kit", "import")),
    *(("class_prefix", wrong) for wrong in ("example", "My Own", "My-Own")),
    *((question, wrong) for question in ("description", "author") for wrong in ('a "b"', "a\\b", "a\nb")),
    ("license", "GPL"),
]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        # A quick run tries the first wrong answer to each question.
        pytest.param(*each, marks=() if each[0] not in dict(REFUSED[:place]) else pytest.mark.exhaustive)
        for place, each in enumerate(REFUSED)
    ],
)
def test_invalid_answer_is_refused(tmp_path: Path, question: str, answer: str) -> None:
    with pytest.raises(ValueError, match=question):
        made(tmp_path / "mine", **{question: answer})

    assert not (tmp_path / "mine/pyproject.toml").exists()


def test_git_url_of_repository_gives_same_plugin(tmp_path: Path, example: Path) -> None:
    repository = tmp_path / "repository"
    (repository / "templates").mkdir(parents=True)
    for name in ("copier.yml", "templates/backend"):
        subprocess.run(["cp", "-R", ROOT / name, repository / name], check=True)
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=repository, check=True)

    command = [sys.executable, "-m", "copier", "copy", "--defaults", str(repository), str(tmp_path / "mine")]
    subprocess.run(command, check=True, timeout=60)

    assert {path.relative_to(example): path.read_bytes() for path in files(example)} == {
        path.relative_to(tmp_path / "mine"): path.read_bytes() for path in files(tmp_path / "mine")
    }


def git(folder: Path, *command: str) -> str:
    own = ["-c", "user.name=x", "-c", "user.email=x@x"]
    return subprocess.run(["git", *own, *command], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_update_brings_changes_of_newer_template_and_keeps_own_changes(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    project = repository / "templates/backend/project"
    shutil.copytree(TEMPLATE, repository / "templates/backend")
    shutil.copy(ROOT / "copier.yml", repository)
    new = {path: path.read_text() for path in (project / "CHANGELOG.md.jinja", project / "README.md.jinja")}
    (project / "CHANGELOG.md.jinja").unlink()
    (project / "README.md.jinja").write_text(new[project / "README.md.jinja"].replace("# Work on it", "# Working"))
    git(repository, "init", "-q")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "old")
    git(repository, "tag", "v0.1.0")
    mine = made(tmp_path / "mine", template=repository, distribution="brrr-mine")
    git(mine, "init", "-q")
    (mine / "README.md").write_text((mine / "README.md").read_text().replace("Options follow", "My options follow"))
    (mine / "src/brrr_mine/store.py").write_text('"""My own store."""\n')
    git(mine, "add", "-A")
    git(mine, "commit", "-qm", "mine")

    for path, text in new.items():
        path.write_text(text)
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "new")
    git(repository, "tag", "v0.2.0")
    update = [sys.executable, "-m", "copier", "update", "--defaults", "--quiet"]
    ended = subprocess.run(update, cwd=mine, capture_output=True, text=True, check=False, timeout=60)

    assert ended.returncode == 0, ended.stderr
    assert "the backend `mine:`" in (mine / "CHANGELOG.md").read_text().lower()
    readme = (mine / "README.md").read_text()
    assert "## Work on it" in readme
    assert "My options follow" in readme
    assert (mine / "src/brrr_mine/store.py").read_text() == '"""My own store."""\n'
    assert "_commit: v0.2.0" in (mine / ".copier-answers.yml").read_text()
    changed = {line[:2].strip(): line[3:] for line in git(mine, "status", "--porcelain").splitlines()}
    assert set(changed) <= {"A", "M", "??"}  # no conflict
    assert "<<<<<<<" not in readme


def files(folder: Path) -> list[Path]:
    """Return the files of a plugin, without the answers, which name the path of the template."""
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".yml"]


# The contract kit cannot test these cases of a file.


@pytest.fixture
def url(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.syspath_prepend(str(example / "src"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # other tests compare the files of the plugin
    manifest = importlib.import_module("brrr_example.manifest").MANIFEST
    register(manifest)
    yield f"example://{tmp_path}/state"
    unregister(manifest)
    for name in [name for name in sys.modules if name.partition(".")[0] == "brrr_example"]:
        del sys.modules[name]


async def test_damaged_file_is_reported_and_kept(url: str, tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"{")

    with pytest.raises(CorruptBackendError, match="state is damaged"):
        await open_backend(url).open()

    assert (tmp_path / "state").read_bytes() == b"{"


async def test_folder_in_place_of_file_is_reported(url: str, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()

    with pytest.raises(BackendUnavailableError, match="state cannot be used"):
        await open_backend(url).open()


async def test_unstorable_argument_is_refused_without_change(url: str, tmp_path: Path) -> None:
    async with open_backend(url) as backend:
        for _ in range(3):
            await backend.cache.increment({"kept": 2**62})
        before = (tmp_path / "state").read_bytes()

        with pytest.raises(ArgumentError, match="surrogate"):
            await backend.queue.put("half a pair \ud800", [b"x"])
        with pytest.raises(ArgumentError, match="cannot be stored"):
            await backend.cache.increment({"kept": 2**62})

        assert (tmp_path / "state").read_bytes() == before


async def test_reading_does_not_write_file(url: str, tmp_path: Path) -> None:
    async with open_backend(url) as backend:
        await backend.store.write([(Key("value", "x"), b"1")])
        before = (tmp_path / "state").stat().st_ino

        await backend.store.read([Key("value", "x")])
        await backend.queue.receive("demo", limit=1, wait=0)
        await backend.queue.stats("demo")

        assert (tmp_path / "state").stat().st_ino == before


async def test_interrupted_write_keeps_old_file(url: str, tmp_path: Path) -> None:
    async with open_backend(url) as backend:
        await backend.store.write([(Key("value", "x"), b"kept")])
    (tmp_path / "state.new").write_bytes(b"half")

    async with open_backend(url) as backend:
        assert await backend.store.read([Key("value", "x")]) == [b"kept"]


@pytest.mark.parametrize(
    "wrong", ["example:", "example:///", "example://host/x", "example://me@/x", "example://me:pw@h/x"]
)
def test_url_without_file_is_refused(url: str, wrong: str) -> None:
    with pytest.raises(UrlError, match="names no file") as refusal:
        open_backend(wrong)

    assert "pw" not in str(refusal.value)


def test_lease_of_zero_is_refused(url: str) -> None:
    with pytest.raises(OptionError, match="lease must be more than 0 s"):
        open_backend(f"{url}?lease=0")
