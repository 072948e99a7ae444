"""Print the distribution that a git tag releases, or refuse the tag: `python -m tools.release brrr-redis-v0.2.0`.

It prints `distribution=…` and `version=…`, in the form of the outputs of a GitHub job. The tag of brrr-core is
`v0.2.0`; CONTRIBUTING.md explains why.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from tools.distributions import CORE, ROOT, Distribution, read_distributions

TAG: Final = re.compile(r"(?:(?P<name>.+)-)?v(?P<version>[0-9].*)")
MAIN: Final = "origin/main"


def main(arguments: list[str] | None = None) -> int:
    """Print the distribution and the version of a tag. Return 1 if the tag is refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tag")
    tag = str(parser.parse_args(arguments).tag)
    every = read_distributions()
    found = list(refusals(tag, every, ROOT))
    for refusal in found:
        print(f"{tag}: {refusal}", file=sys.stderr)
    if not found:
        distribution = every[name_and_version(tag)[0]]
        print(f"distribution={distribution.name}\nversion={distribution.version}")
    return min(len(found), 1)


def refusals(tag: str, every: Mapping[str, Distribution], root: Path) -> Iterator[str]:
    """Return the reasons why a tag cannot be released from the repository in a folder."""
    try:
        name, version = name_and_version(tag)
    except ValueError as error:
        yield str(error)
        return
    distribution = every.get(name)
    if distribution is None:
        yield f"no distribution has the name {name}; there are {', '.join(every)}"
        return
    if version != distribution.version:
        yield f"the version of {name} in pyproject.toml is {distribution.version}"
    elif tag != distribution.tag:
        yield f"write the tag as {distribution.tag}"
    yield from _changelog(distribution)
    yield from _place(tag, root)
    yield from _unreleased(distribution, every, root)


def name_and_version(tag: str) -> tuple[str, Version]:
    """Return the distribution's name and the version in a tag.

    Raises:
        ValueError: The tag has another form.
    """
    match = TAG.fullmatch(tag)
    if match is None:
        raise ValueError("a tag has the form v0.2.0 for brrr-core, and brrr-redis-v0.2.0 for another distribution")
    try:
        return match["name"] or CORE, Version(match["version"])
    except InvalidVersion:
        raise ValueError(f"{match['version']} is not a version of PEP 440") from None


def _changelog(distribution: Distribution) -> Iterator[str]:
    wanted = f"[{distribution.version}] - YYYY-MM-DD"
    try:
        newest = distribution.headings()[0]
    except (ValueError, IndexError) as error:
        yield f"CHANGELOG.md does not begin with the section {wanted}: {error}"
        return
    if newest.version is None:
        yield f"CHANGELOG.md does not begin with the section {wanted}; rename [Unreleased]"
    elif newest.version != distribution.version:
        yield f"CHANGELOG.md begins with {newest.version} instead of the section {wanted}"
    elif not newest.text:
        yield f"CHANGELOG.md lists no change of {distribution.version}"


def _place(tag: str, root: Path) -> Iterator[str]:
    head, tagged = _git(root, "rev-parse", "HEAD"), _git(root, "rev-parse", f"refs/tags/{tag}^{{commit}}")
    if tagged is None:
        yield "this repository has no such tag"
    elif tagged != head:
        yield "the tag is not the commit that is checked out"
    elif _git(root, "merge-base", "--is-ancestor", "HEAD", MAIN) is None:
        yield f"the tagged commit is not on {MAIN}"
    if _git(root, "status", "--porcelain", "--untracked-files=no"):
        yield "the checkout has changes that are not committed"


def _unreleased(distribution: Distribution, every: Mapping[str, Distribution], root: Path) -> Iterator[str]:
    """Return the requirements on siblings that no released version satisfies."""
    tags = (_git(root, "tag", "--list") or "").split()
    for requirement in distribution.requirements:
        if requirement.name in every and not any(_satisfies(tag, requirement) for tag in tags):
            yield f"no released version of {requirement.name} satisfies {requirement}; release that first"


def _satisfies(tag: str, requirement: Requirement) -> bool:
    try:
        name, version = name_and_version(tag)
    except ValueError:
        return False
    return name == requirement.name and requirement.specifier.contains(version, prereleases=True)


def _git(root: Path, *arguments: str) -> str | None:
    """Return the output of a git command; None if it fails."""
    command = ["git", *arguments]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return ended.stdout.strip() if ended.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main())
