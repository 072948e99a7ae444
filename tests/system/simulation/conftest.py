"""The scenario of a sweep."""

import pytest

from tests.support.sweeps import Scenario


@pytest.fixture
def scenario(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Scenario:
    import brrr_core.engine.scheduling as module

    names = module.__dict__
    monkeypatch.setitem(names, "RETURNS_LIMIT", names["RETURNS_LIMIT"])  # so that it is restored after the scenario
    kind, steps = request.param
    made: Scenario = kind()
    made.steps = steps
    return made
