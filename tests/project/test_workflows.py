"""The workflows on GitHub run pinned actions with few rights, on each version of Python that the distributions name."""

import re
from typing import Any

import pytest
import yaml

from tools.distributions import CORE, ROOT, read_distributions

WORKFLOWS = {path.stem: path for path in sorted(ROOT.glob(".github/workflows/*.yml"))}
PYTHON = "Programming Language :: Python :: 3."


def workflow(name: str) -> dict[Any, Any]:
    return yaml.safe_load(WORKFLOWS[name].read_text())


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_action_is_pinned_by_commit_and_names_its_version(name: str) -> None:
    used = re.findall(r"uses: (.*)", WORKFLOWS[name].read_text())

    assert used
    assert [each for each in used if not re.fullmatch(r"\./.*|[\w/-]+@[0-9a-f]{40} # v[\d.]+", each)] == []


@pytest.mark.parametrize("name", WORKFLOWS)
def test_only_publishing_job_may_do_more_than_read(name: str) -> None:
    assert workflow(name)["permissions"] == {"contents": "read"}
    rights = {job: said["permissions"] for job, said in workflow(name)["jobs"].items() if "permissions" in said}
    assert rights == ({"publish": {"id-token": "write"}} if name == "release" else {})


def test_publishing_needs_environment_and_every_other_job() -> None:
    jobs = workflow("release")["jobs"]

    assert jobs["publish"]["environment"]["name"] == "pypi"
    assert set(jobs["publish"]["needs"]) == set(jobs) - {"publish"}


def test_ci_runs_each_version_of_python_that_distributions_name() -> None:
    named = [each for each in read_distributions()[CORE].classifiers if each.startswith(PYTHON)]

    tested = workflow("ci")["jobs"]["ci"]["strategy"]["matrix"]["python"]
    assert [f"{PYTHON}{version.removeprefix('3.')}" for version in tested] == named
