"""Durations in arguments: seconds, a `timedelta`, or a text with a unit."""

from datetime import timedelta
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.durations import seconds
from brrr_core.errors import ArgumentError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0, 0.0),
        (1.5, 1.5),
        ("250ms", 0.25),
        ("30", 30.0),
        ("1.5h", 5400.0),
        ("7d", 604_800.0),
        (timedelta(minutes=2), 120.0),
    ],
)
def test_duration_is_read_in_seconds(given: Any, expected: float) -> None:
    assert seconds(given) == expected


@pytest.mark.parametrize(
    "given", ["", "h", "1 h", "-1s", -1, float("nan"), float("inf"), timedelta(seconds=-1), True, None]
)
def test_anything_else_is_refused_with_the_name_of_the_argument(given: Any) -> None:
    with pytest.raises(ArgumentError, match="deadline is"):
        seconds(given, "deadline")


def test_settings_of_a_handler_take_durations() -> None:
    @brrr.handler_no_arg(timeout="30s", backoff=timedelta(seconds=2))
    def task() -> None: ...

    assert (task.policy.timeout, task.policy.backoff) == (30.0, 2.0)


def test_again_takes_a_duration() -> None:
    assert brrr.Again(after="10s").after == 10.0
