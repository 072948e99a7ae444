"""Build a wheel and a source archive of every distribution into dist/, and check them: `make dist`.

`make dist ARGS="--package brrr-redis"` builds and checks one distribution.
"""

import argparse
import configparser
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from tools.distributions import CORE, ROOT, Distribution, read_distributions
from tools.index_page import lost_parts

BIN: Final = Path(sys.executable).parent
PAGES: Final = ("README.md", "LICENSE", "CHANGELOG.md")
TESTS: Final = re.compile(r"(^|/)(tests?/|test_[^/]*$|conftest\.py$)")


def main(arguments: list[str] | None = None) -> int:
    """Build and check the distributions. Return 1 if one has a defect."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", action="append", help="a distribution to build; all by default")
    parser.add_argument("--out-dir", type=Path, default=ROOT / "dist")
    given = parser.parse_args(arguments)
    every = read_distributions()
    unknown = set(given.package or ()) - set(every)
    if unknown:
        parser.error(f"no distribution has the name {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    chosen = [every[name] for name in given.package or every]
    shutil.rmtree(given.out_dir, ignore_errors=True)
    build(chosen, given.out_dir)
    found = list(defects(chosen, given.out_dir, every))
    for defect in found:
        print(defect, file=sys.stderr)
    print(f"{len(found)} defects" if found else f"Built and checked {len(chosen)} distributions in {given.out_dir}")
    return min(len(found), 1)


def build(chosen: Iterable[Distribution], folder: Path) -> None:
    """Build a source archive of each distribution, and a wheel from that archive."""
    for distribution in chosen:
        command: list[str | Path] = [
            BIN / "uv",
            "build",
            "--quiet",
            "--package",
            distribution.name,
            "--out-dir",
            folder,
        ]
        subprocess.run([*command, "--python", sys.executable], cwd=ROOT, check=True)


def defects(chosen: Iterable[Distribution], folder: Path, every: Mapping[str, Distribution]) -> Iterator[str]:
    """Return the defects of the archives in a folder, one line each."""
    chosen = list(chosen)
    expected = {f"{each.stem}{end}" for each in chosen for end in ("-py3-none-any.whl", ".tar.gz")}
    made = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    yield from _differences(folder.name, expected, made)
    for distribution in chosen:
        found = [
            *_source_archive(distribution, folder),
            *_wheel(distribution, folder),
            *changelog_defects(distribution),
            *_classifiers(distribution, every[CORE]),
            *_siblings(distribution, every),
        ]
        yield from (f"{distribution.name}: {defect}" for defect in found)
    archives = [folder / name for name in sorted(expected & made)]
    command: list[str | Path] = [sys.executable, "-m", "twine", "--no-color", "check", "--strict", *archives]
    twine = subprocess.run(command, capture_output=True, text=True, check=False)
    if twine.returncode:
        yield f"twine check --strict fails:\n{twine.stdout}{twine.stderr}"


def changelog_defects(distribution: Distribution) -> Iterator[str]:
    """Return the contradictions between the changelog and the version."""
    try:
        headings = distribution.headings()
    except ValueError as error:
        yield f"CHANGELOG.md: {error}"
        return
    released = [heading.version for heading in headings if heading.version is not None]
    if not headings:
        yield "CHANGELOG.md has no section"
    elif released != sorted(released, reverse=True) or None in [heading.version for heading in headings[1:]]:
        yield "CHANGELOG.md: the newest version does not come first"
    elif released and distribution.version < released[0]:
        yield f"CHANGELOG.md lists {released[0]}, but the version is {distribution.version}"
    elif released and distribution.version > released[0] and headings[0].version is not None:
        yield f"CHANGELOG.md has no section [Unreleased] for {distribution.version}"


def _source_archive(distribution: Distribution, folder: Path) -> Iterator[str]:
    path = folder / f"{distribution.stem}.tar.gz"
    if not path.exists():
        return
    with tarfile.open(path) as archive:
        held = {member.name.partition("/")[2] for member in archive.getmembers()}
    # hatchling adds the last three: its settings, the metadata, and the file that says what is not source.
    expected = {*_tracked(distribution, distribution.folder), *PAGES, "pyproject.toml", "PKG-INFO", ".gitignore"}
    yield from _differences(path.name, expected, held)


def _wheel(distribution: Distribution, folder: Path) -> Iterator[str]:
    path = folder / f"{distribution.stem}-py3-none-any.whl"
    if not path.exists():
        return
    about = f"{distribution.stem}.dist-info"
    entry_points = f"{about}/entry_points.txt"
    with zipfile.ZipFile(path) as archive:
        held = set(archive.namelist())
        metadata = HeaderParser().parsestr(archive.read(f"{about}/METADATA").decode())
        points = archive.read(entry_points).decode() if entry_points in held else ""
    expected = {
        *_tracked(distribution, distribution.package.parent),
        *(f"{about}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "licenses/LICENSE")),
        *([entry_points] if points else []),
    }
    yield from _differences(path.name, expected, held)
    if f"{distribution.package.name}/py.typed" not in held:
        yield f"{path.name} has no py.typed"
    yield from (f"{path.name} contains the test {name}" for name in sorted(held) if TESTS.search(name))
    yield from _entry_points(points, held)
    yield from _metadata(distribution, metadata)


def _entry_points(text: str, held: set[str]) -> Iterator[str]:
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.read_string(text)
    for group in parser.sections():
        for name, target in parser[group].items():
            module = target.partition(":")[0].replace(".", "/")
            if not {f"{module}.py", f"{module}/__init__.py"} & held:
                yield f"the entry point {name} of {group} names {target}, which the wheel does not contain"


def _metadata(distribution: Distribution, metadata: Message) -> Iterator[str]:
    if metadata["Description-Content-Type"] != "text/markdown":
        yield f"the README has the type {metadata['Description-Content-Type']} instead of text/markdown"
    if metadata.get_payload() != distribution.index_readme():
        yield "the description is not the README with absolute links"
    yield from (f"README.md: {part}" for part in lost_parts(str(metadata.get_payload())))
    for name in ("Summary", "License-Expression", "Requires-Python"):
        if not metadata[name]:
            yield f"the metadata has no {name}"


def _classifiers(distribution: Distribution, core: Distribution) -> Iterator[str]:
    missing = [each for each in core.classifiers if each not in distribution.classifiers]
    yield from (f"it lacks the classifier {each!r} of {core.name}" for each in missing)


def _siblings(distribution: Distribution, every: Mapping[str, Distribution]) -> Iterator[str]:
    for requirement in (*distribution.requirements, *distribution.extras):
        sibling = every.get(requirement.name)
        if sibling and not _admits(requirement, sibling):
            yield f"{requirement} does not admit {sibling.name} {sibling.version} of this workspace"


def _admits(requirement: Requirement, sibling: Distribution) -> bool:
    return requirement.specifier.contains(sibling.version, prereleases=True)


def _tracked(distribution: Distribution, base: Path) -> set[str]:
    """Return the files of the package that git knows, relative to a folder."""
    command: list[str | Path] = ["git", "ls-files", "-z", "--cached", "--", distribution.package]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    files = (ROOT / name for name in listed.stdout.split("\0") if name)
    return {path.relative_to(base).as_posix() for path in files if path.exists()}


def _differences(place: str, expected: set[str], found: set[str]) -> Iterator[str]:
    yield from (f"{place} lacks {name}" for name in sorted(expected - found))
    yield from (f"{place} contains {name}, which does not belong there" for name in sorted(found - expected))


if __name__ == "__main__":
    sys.exit(main())
