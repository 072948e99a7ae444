"""The pytest plugin: a failure shows the story of the history, and options choose the seeds."""

import pytest

pytest_plugins = "pytester"

SHOP = """
import itertools
import brrr_core as brrr

def make(effects):
    @brrr.handler_no_arg
    async def charge(order: int) -> None:
        effects.record("payment", order)

    @brrr.handler
    async def order(app: brrr.ActiveWorker, number: int) -> str:
        await app.call(charge)(number)
        await app.sleep("30d")
        return "shipped"

    return {"charge": charge, "order": order}
"""
RIGHT = (
    f"{SHOP}\ndef test_order(brrr_check):\n    assert brrr_check(make, 'order', 7, seeds=range(3)) == b'\"shipped\"'\n"
)
WRONG = f"{SHOP}\ndef test_order(brrr_check):\n    brrr_check(make, 'order', 7, at_most={{'payment': 1}})\n"


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project of its own. Its pytest runs in this process, without the plugins that the repository needs."""
    pytester.makeini("[pytest]\naddopts = -p no:asyncio -p no:xdist")
    return pytester


def test_correct_workflow_passes(project: pytest.Pytester) -> None:
    project.makepyfile(RIGHT)
    project.runpytest_inprocess().assert_outcomes(passed=1)


def test_failure_shows_the_story_instead_of_a_traceback(project: pytest.Pytester) -> None:
    project.makepyfile(WRONG)
    result = project.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "seed *: the effect 'payment' of 7 took place 2 times, which is more than 1.*",
            "* order [[]7] runs",
            "* charge [[]7] has the effect 'payment' of 7",
            "* fault *: *",
            "* charge [[]7] has the effect 'payment' of 7",
            "* order [[]7] returns b'\"shipped\"'",
            "Run it again: pytest --brrr-seed * 'test_failure_shows_the_story_instead_of_a_traceback.py::test_order'",
        ]
    )
    result.stdout.no_fnmatch_line("*Error*")
    result.stdout.no_fnmatch_line("*def test_order*")


@pytest.mark.parametrize(("option", "seeds"), [("--brrr-seed=17", "[17]"), ("--brrr-seeds=4", "[0, 1, 2, 3]")])
def test_option_chooses_the_seeds(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, option: str, seeds: str
) -> None:
    def check(*_: object, seeds: object) -> object:
        return seeds

    monkeypatch.setattr("brrr_simulation.checking.check", check)
    project.makepyfile(f"def test_seeds(brrr_check):\n    assert [*brrr_check(seeds=range(9))] == {seeds}")
    project.runpytest_inprocess(option).assert_outcomes(passed=1)
