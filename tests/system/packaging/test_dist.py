"""`make dist` finds no defect in this checkout, and each of its checks finds its defect."""

import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from tools.dist import changelog_defects, defects
from tools.distributions import CORE, Distribution, read_distributions
from tools.index_page import lost_parts

pytestmark = pytest.mark.packaging

EVERY = read_distributions()
SQLITE = EVERY["brrr-sqlite"]
WHEEL = f"{SQLITE.stem}-py3-none-any.whl"
SOURCES = f"{SQLITE.stem}.tar.gz"


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Path:
    """Copy the archives of brrr-sqlite, so that a test can spoil them."""
    folder = tmp_path / "dist"
    folder.mkdir()
    for name in (WHEEL, SOURCES):
        shutil.copy(built / name, folder)
    return folder


def found(folder: Path, distribution: Distribution = SQLITE) -> list[str]:
    return list(defects([distribution], folder, {**EVERY, distribution.name: distribution}))


def change_wheel(path: Path, change: Callable[[dict[str, bytes]], object]) -> None:
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def change_sources(path: Path, change: Callable[[dict[str, bytes]], object]) -> None:
    with tarfile.open(path) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive.getmembers()}  # type: ignore[union-attr]
    change(files)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_every_distribution_passes_every_check(built: Path) -> None:
    assert list(defects(EVERY.values(), built, EVERY)) == []


@pytest.mark.parametrize(
    ("name", "defect"),
    [
        ("brrr_sqlite/notes.txt", "contains brrr_sqlite/notes.txt, which does not belong there"),
        ("brrr_sqlite/test_queue.py", "contains the test brrr_sqlite/test_queue.py"),
        ("tests/conftest.py", "contains the test tests/conftest.py"),
    ],
)
def test_stray_file_in_wheel_is_found(copied: Path, name: str, defect: str) -> None:
    change_wheel(copied / WHEEL, lambda files: files.update({name: b""}))

    assert f"brrr-sqlite: {WHEEL} {defect}" in found(copied)


@pytest.mark.parametrize(
    ("name", "defect"),
    [
        ("brrr_sqlite/py.typed", f"{WHEEL} has no py.typed"),
        ("brrr_sqlite/queue.py", f"{WHEEL} lacks brrr_sqlite/queue.py"),
        (f"{SQLITE.stem}.dist-info/licenses/LICENSE", f"{WHEEL} lacks {SQLITE.stem}.dist-info/licenses/LICENSE"),
        ("brrr_sqlite/manifest.py", "the entry point sqlite of brrr.backends names brrr_sqlite.manifest:MANIFEST"),
    ],
)
def test_missing_file_of_wheel_is_found(copied: Path, name: str, defect: str) -> None:
    change_wheel(copied / WHEEL, lambda files: files.pop(name))

    assert [line for line in found(copied) if line.startswith(f"brrr-sqlite: {defect}")]


@pytest.mark.parametrize("name", ["LICENSE", "README.md", "CHANGELOG.md", "src/brrr_sqlite/py.typed"])
def test_missing_file_of_source_archive_is_found(copied: Path, name: str) -> None:
    change_sources(copied / SOURCES, lambda files: files.pop(f"{SQLITE.stem}/{name}"))

    assert f"brrr-sqlite: {SOURCES} lacks {name}" in found(copied)


def test_stray_file_in_source_archive_is_found(copied: Path) -> None:
    change_sources(copied / SOURCES, lambda files: files.update({f"{SQLITE.stem}/tests/test_queue.py": b""}))

    assert found(copied) == [f"brrr-sqlite: {SOURCES} contains tests/test_queue.py, which does not belong there"]


def test_archive_of_other_version_is_found(copied: Path) -> None:
    (copied / SOURCES).rename(copied / "brrr_sqlite-9.tar.gz")

    assert {f"dist lacks {SOURCES}", "dist contains brrr_sqlite-9.tar.gz, which does not belong there"} <= {
        *found(copied)
    }


def test_description_without_type_fails_twine(copied: Path) -> None:
    def spoil(files: dict[str, bytes]) -> None:
        name = f"{SQLITE.stem}.dist-info/METADATA"
        files[name] = files[name].replace(b"Description-Content-Type: text/markdown\n", b"")

    change_wheel(copied / WHEEL, spoil)

    assert any(line.startswith("twine check --strict fails") for line in found(copied))


def test_changed_description_is_found(copied: Path) -> None:
    def spoil(files: dict[str, bytes]) -> None:
        files[f"{SQLITE.stem}.dist-info/METADATA"] += b"[more](https://example.org)\n"

    change_wheel(copied / WHEEL, spoil)

    assert found(copied) == ["brrr-sqlite: the description is not the README with absolute links"]


def test_range_that_excludes_sibling_is_found(copied: Path) -> None:
    every = {**EVERY, CORE: replace(EVERY[CORE], version=Version("99"))}
    [required] = [each for each in SQLITE.requirements if each.name == CORE]

    assert f"brrr-sqlite: {required} does not admit brrr-core 99 of this workspace" in [
        *defects([SQLITE], copied, every)
    ]


def test_missing_classifier_is_found(copied: Path) -> None:
    untyped = replace(SQLITE, classifiers=())

    assert "brrr-sqlite: it lacks the classifier 'Typing :: Typed' of brrr-core" in found(copied, untyped)


@pytest.mark.parametrize(
    ("changelog", "defect"),
    [
        ("## [0.2.0] - 2026-01-01\n", "CHANGELOG.md lists 0.2.0, but the version is 0.1.0"),
        ("## [0.0.9] - 2026-01-01\n", "CHANGELOG.md has no section [Unreleased] for 0.1.0"),
        (
            "## [0.0.8] - 2026-01-01\n\n## [0.0.9] - 2026-01-02\n",
            "CHANGELOG.md: the newest version does not come first",
        ),
        ("## [0.0.9] - 2026-01-01\n\n## [Unreleased]\n", "CHANGELOG.md: the newest version does not come first"),
        ("## [0.1.0] - soon\n", "CHANGELOG.md: The heading '## [0.1.0] - soon' is neither [Unreleased] nor"),
        ("# Changelog\n", "CHANGELOG.md has no section"),
    ],
)
def test_changelog_that_contradicts_version_is_found(tmp_path: Path, changelog: str, defect: str) -> None:
    (tmp_path / "CHANGELOG.md").write_text(changelog)

    [line] = changelog_defects(replace(SQLITE, folder=tmp_path, version=Version("0.1.0")))

    assert line.startswith(defect)


@pytest.mark.parametrize(
    ("readme", "lost"),
    [
        ("<video src='x.mp4'></video>", ["the index drops <video>", 'the index drops src="x.mp4" of <video>']),
        ("[run](javascript:x)", ['the index drops href="javascript:x" of <a>']),
        ("[docs](docs/index.md)", ["the link docs/index.md does not work on the index; begin it with https://"]),
        ("[below](#missing)", ["the link #missing leads to no heading"]),
        ("# Here\n\n[above](#here) [brrr](https://pypi.org/project/brrr-core/)\n\n```py\nx = 1\n```", []),
    ],
)
def test_part_of_readme_that_the_index_drops_is_found(readme: str, lost: list[str]) -> None:
    assert list(lost_parts(readme)) == lost
