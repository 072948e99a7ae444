"""The pytest plugin: the fixture `brrr_check`, and the options that choose its seeds."""

from collections.abc import Callable
from typing import Any

import pytest

__all__ = ["brrr_check", "pytest_addoption"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("brrr", "checks of brrr workflows under faults")
    group.addoption("--brrr-seed", type=int, metavar="N", help="run each `brrr_check` with this seed only")
    group.addoption(
        "--brrr-seeds", type=int, metavar="COUNT", help="run each `brrr_check` with this number of seeds, from 0"
    )


@pytest.fixture
def brrr_check(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return `brrr_simulation.check`, whose failures show the story of the history instead of a traceback."""
    seed, count = request.config.getoption("--brrr-seed"), request.config.getoption("--brrr-seeds")

    def check(*args: Any, **how: Any) -> Any:
        __tracebackhide__ = True
        from brrr_simulation.checking import (
            CheckFailedError,
            check,
        )  # imported late, because pytest loads this module in every run

        if seed is not None:
            how["seeds"] = [seed]
        elif count is not None:
            how["seeds"] = range(count)
        try:
            return check(*args, **how)
        except CheckFailedError as error:
            again = f"Run it again: pytest --brrr-seed {error.seed} '{request.node.nodeid}'"
            failure = "\n".join(part for part in (str(error), error.story, again) if part)
        pytest.fail(failure, pytrace=False)

    return check
