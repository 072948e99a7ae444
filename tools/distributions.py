"""The distributions of this workspace: names, versions, folders, requirements, changelogs and tags."""

import os
import re
import tomllib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.version import Version

ROOT: Final = Path(__file__).resolve().parent.parent
CORE: Final = "brrr-core"
LINK: Final = re.compile(r"(\]\()(?!https?:|#)([^)\s]+)(?=\))")
HEADING: Final = re.compile(r"^## \[(?P<version>[^\]]+)\](?P<rest>.*)$", re.MULTILINE)
UNRELEASED: Final = "Unreleased"


@dataclass(frozen=True)
class Heading:
    """A version's heading in a changelog.

    Attributes:
        version: The version; None for the section of unreleased changes.
        day: The day of the release; None if the heading has none.
        text: The section's text, without the heading.
    """

    version: Version | None
    day: date | None
    text: str


@dataclass(frozen=True)
class Distribution:
    """A distribution of this workspace.

    Attributes:
        name: The name on the package index.
        version: The version in pyproject.toml.
        folder: The folder of pyproject.toml.
        package: The folder of the import package.
        requirements: The requirements without extras.
        extras: The requirements of all extras.
        classifiers: The trove classifiers.
        repository: The address of the repository.
    """

    name: str
    version: Version
    folder: Path
    package: Path
    requirements: tuple[Requirement, ...]
    extras: tuple[Requirement, ...]
    classifiers: tuple[str, ...]
    repository: str

    @property
    def stem(self) -> str:
        """Return the beginning of the names of the archives."""
        return f"{self.package.name}-{self.version}"

    @property
    def tag(self) -> str:
        """Return the git tag of this version.

        The core's tag is `v0.1.0`, because copier takes the newest tag that is a PEP 440 version as the version of the
        template. The tags of other distributions begin with their name, and copier ignores them.
        """
        return f"v{self.version}" if self.name == CORE else f"{self.name}-v{self.version}"

    def index_readme(self) -> str:
        """Return the README as the package index shows it: its links are absolute, and lead to the tag."""
        place = Path() if self.name == CORE else Path("plugins", self.folder.name)

        def absolute(link: re.Match[str]) -> str:
            return f"{link[1]}{self.repository}/blob/{self.tag}/{os.path.normpath(place / link[2])}"

        return LINK.sub(absolute, (self.folder / "README.md").read_text(encoding="utf-8"))

    def headings(self) -> list[Heading]:
        """Return the sections of the changelog, newest first.

        Raises:
            ValueError: A heading is neither `[Unreleased]` nor `[VERSION] - YYYY-MM-DD`.
        """
        text = (self.folder / "CHANGELOG.md").read_text(encoding="utf-8")
        found = list(HEADING.finditer(text))
        ends = [*(match.start() for match in found), len(text)][1:]
        return [_heading(match, text[match.end() : end].strip()) for match, end in zip(found, ends, strict=True)]


def read_distributions(root: Path = ROOT) -> dict[str, Distribution]:
    """Return the distributions by name, the core first."""
    projects = [root / "pyproject.toml", *sorted(root.glob("plugins/*/pyproject.toml"))]
    return {found.name: found for found in map(_read, projects)}


def _read(project: Path) -> Distribution:
    settings = tomllib.loads(project.read_text(encoding="utf-8"))
    said = settings["project"]
    [package] = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    extras = said.get("optional-dependencies", {})
    return Distribution(
        name=said["name"],
        version=Version(said["version"]),
        folder=project.parent,
        package=project.parent / package,
        requirements=tuple(map(Requirement, said.get("dependencies", []))),
        extras=tuple(Requirement(text) for required in extras.values() for text in required),
        classifiers=tuple(said.get("classifiers", [])),
        repository=said["urls"]["Repository"],
    )


def _heading(match: re.Match[str], text: str) -> Heading:
    if match["version"] == UNRELEASED and not match["rest"].strip():
        return Heading(None, None, text)
    day = re.fullmatch(r" - (\d{4}-\d\d-\d\d)", match["rest"].rstrip())
    if day is None:
        raise ValueError(f"The heading {match[0]!r} is neither [{UNRELEASED}] nor [VERSION] - YYYY-MM-DD.")
    return Heading(Version(match["version"]), date.fromisoformat(day[1]), text)
