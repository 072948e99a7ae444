"""A git tag names the distribution to release, and a tag that contradicts the repository is refused."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.distributions import ROOT, read_distributions
from tools.release import refusals

PROJECT = """\
[project]
name = "{name}"
version = "0.1.0"
dependencies = {dependencies}

[project.urls]
Repository = "https://git.example/brrr"

[tool.hatch.build.targets.wheel]
packages = ["{package}"]
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository in which brrr-core and brrr-redis 0.1.0 are ready for their release, and brrr-nats is not."""
    home = tmp_path / "repository"
    for name in ("tools", "templates/backend"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "copier.yml", home)
    project(home, "brrr-core", [], "[0.1.0] - 2026-01-02")
    project(home / "plugins/brrr-nats", "brrr-nats", ["brrr-core>=0.1,<0.2"], "[Unreleased]")
    project(home / "plugins/brrr-redis", "brrr-redis", ["brrr-core>=0.1,<0.2"], "[0.1.0] - 2026-01-02")
    git(home, "init", "--quiet", "--initial-branch=main")
    commit(home)
    return home


def project(folder: Path, name: str, dependencies: list[str], heading: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = PROJECT.format(name=name, dependencies=dependencies, package=name.replace("-", "_"))
    (folder / "pyproject.toml").write_text(text)
    (folder / "CHANGELOG.md").write_text(f"# Changelog\n\n## {heading}\n\n- First version.\n")


def git(home: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "tag.gpgSign=false"]
    ended = subprocess.run(["git", *identity, *arguments], cwd=home, capture_output=True, text=True, check=True)
    return ended.stdout


def commit(home: Path) -> None:
    """Commit everything, and push it to the main branch of the origin."""
    git(home, "add", "--all")
    git(home, "-c", "commit.gpgSign=false", "commit", "--quiet", "--allow-empty", "--message=x")
    git(home, "update-ref", "refs/remotes/origin/main", "HEAD")


def change(path: Path, old: str, new: str) -> None:
    text, count = re.subn(old, new, path.read_text(), count=1)
    assert count == 1, path
    path.write_text(text)


def tag(home: Path, *names: str) -> None:
    for name in names:
        git(home, "tag", "--annotate", "--message=x", name)


def refused(home: Path, name: str) -> list[str]:
    return list(refusals(name, read_distributions(home), home))


@pytest.mark.parametrize(("name", "distribution"), [("v0.1.0", "brrr-core"), ("brrr-redis-v0.1.0", "brrr-redis")])
def test_tag_names_its_distribution(repository: Path, name: str, distribution: str) -> None:
    tag(repository, "v0.1.0", "brrr-redis-v0.1.0")

    command = [sys.executable, "-m", "tools.release", name]
    ended = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)

    assert (ended.stdout, ended.stderr) == (f"distribution={distribution}\nversion=0.1.0\n", "")


def test_refused_tag_prints_no_distribution(repository: Path) -> None:
    command = [sys.executable, "-m", "tools.release", "v0.1.1"]
    ended = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert "v0.1.1: the version of brrr-core in pyproject.toml is 0.1.0" in ended.stderr


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("v0.2.0", "the version of brrr-core in pyproject.toml is 0.1.0"),
        ("brrr-redis-v0.1.1", "the version of brrr-redis in pyproject.toml is 0.1.0"),
        ("brrr-core-v0.1.0", "write the tag as v0.1.0"),
        ("v0.1", "write the tag as v0.1.0"),
        ("brrr-mysql-v0.1.0", "no distribution has the name brrr-mysql"),
        ("brrr-redis-0.1.0", "a tag has the form v0.2.0 for brrr-core"),
        ("v0.1.0-x", "0.1.0-x is not a version of PEP 440"),
        ("brrr-nats-v0.1.0", "CHANGELOG.md does not begin with the section [0.1.0] - YYYY-MM-DD; rename [Unreleased]"),
    ],
)
def test_tag_that_contradicts_version_or_changelog_is_refused(repository: Path, name: str, refusal: str) -> None:
    tag(repository, *{"v0.1.0", name})

    [line] = refused(repository, name)

    assert line.startswith(refusal)


@pytest.mark.parametrize(
    ("heading", "refusal"),
    [
        ("## [0.0.9] - 2026-01-01", "CHANGELOG.md begins with 0.0.9 instead of the section [0.1.0] - YYYY-MM-DD"),
        ("## [0.1.0]", "CHANGELOG.md does not begin with the section [0.1.0] - YYYY-MM-DD: The heading"),
        ("## [0.1.0] - 2026-01-01\n\n## [0.0.9] - 2026-01-01", "CHANGELOG.md lists no change of 0.1.0"),
    ],
)
def test_changelog_without_section_of_version_is_refused(repository: Path, heading: str, refusal: str) -> None:
    change(repository / "CHANGELOG.md", r"## \[0\.1\.0\] - 2026-01-02", heading)
    commit(repository)
    tag(repository, "v0.1.0")

    [line] = refused(repository, "v0.1.0")

    assert line.startswith(refusal)


def test_plugin_before_its_core_is_refused(repository: Path) -> None:
    tag(repository, "brrr-redis-v0.1.0")

    assert refused(repository, "brrr-redis-v0.1.0") == [
        "no released version of brrr-core satisfies brrr-core<0.2,>=0.1; release that first"
    ]


def test_tag_of_other_commit_is_refused(repository: Path) -> None:
    assert refused(repository, "v0.1.0") == ["this repository has no such tag"]

    tag(repository, "v0.1.0")
    commit(repository)

    assert refused(repository, "v0.1.0") == ["the tag is not the commit that is checked out"]


def test_commit_outside_main_is_refused(repository: Path) -> None:
    tag(repository, "v0.1.0")
    git(repository, "update-ref", "-d", "refs/remotes/origin/main")

    assert refused(repository, "v0.1.0") == ["the tagged commit is not on origin/main"]


def test_changed_checkout_is_refused(repository: Path) -> None:
    tag(repository, "v0.1.0")
    (repository / "CHANGELOG.md").write_text((repository / "CHANGELOG.md").read_text() + "\nmore\n")

    assert refused(repository, "v0.1.0") == ["the checkout has changes that are not committed"]


def test_copier_takes_template_of_newest_core(repository: Path, tmp_path: Path) -> None:
    tag(repository, "v0.1.0")
    change(repository / "templates/backend/project/README.md.jinja", r"\Z", "\nof 0.1.1\n")
    commit(repository)
    tag(repository, "v0.1.1", "brrr-redis-v0.2.0")
    change(repository / "templates/backend/project/README.md.jinja", r"\Z", "\nof 0.1.2\n")
    commit(repository)
    tag(repository, "brrr-nats-v9.0.0")

    copier = [sys.executable, "-m", "copier"]
    mine = tmp_path / "mine"
    subprocess.run([*copier, "copy", "--quiet", "--defaults", repository, mine], check=True)
    assert "of 0.1.1" in (mine / "README.md").read_text()
    assert "of 0.1.2" not in (mine / "README.md").read_text()

    git(mine, "init", "--quiet")
    git(mine, "add", "--all")
    git(mine, "commit", "--quiet", "--message=x")
    tag(repository, "v0.1.2")
    subprocess.run([*copier, "update", "--quiet", "--defaults"], cwd=mine, check=True)
    assert "of 0.1.2" in (mine / "README.md").read_text()
