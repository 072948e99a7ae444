"""The special parts of histories: each holds, and its figures show that it does what it says."""

import gc
from collections.abc import Iterator

import pytest

from brrr_simulation import simulate
from brrr_simulation.history import THEMES
from brrr_simulation.story import tell

SEEDS = 4
MORE = 20


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """Each history makes many cycles that end with it."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("theme", [theme for theme in THEMES if theme])
@pytest.mark.parametrize(
    "seeds", [range(SEEDS), pytest.param(range(SEEDS, MORE), marks=pytest.mark.exhaustive)], ids=["few", "more"]
)
def test_histories_of_each_theme_hold(theme: str, seeds: range) -> None:
    for seed in seeds:
        report = simulate(seed, theme=theme)
        assert not report.violations, tell(simulate(seed, theme=theme, trace=True), {"theme": theme})
