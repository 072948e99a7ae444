"""Polling ends when a condition holds, and fails with a reason if it does not hold in time."""

import asyncio
import subprocess
import sys
from itertools import count

import pytest

from brrr_testkit.waiting import until, wait_until


async def test_until_takes_functions_and_coroutine_functions() -> None:
    calls = count()

    async def third() -> bool:
        return next(calls) >= 2

    await until(third)
    assert next(calls) == 3
    await until(lambda: next(calls) >= 5)
    assert next(calls) == 6


async def test_until_takes_a_future_as_a_value_and_does_not_await_it() -> None:
    await until(asyncio.get_running_loop().create_future, bound=1)


async def test_until_fails_with_the_name_of_the_condition() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.01 s: it rains"):
        await until(lambda: False, "it rains", bound=0.01)


async def test_until_passes_on_the_timeout_of_its_condition() -> None:
    async def late() -> bool:
        raise TimeoutError("of the condition")

    with pytest.raises(TimeoutError, match="of the condition"):
        await until(late)


def test_wait_until_returns_the_value_and_ignores_failures() -> None:
    calls = count()

    def third() -> int:
        number = next(calls)
        if number < 2:
            raise OSError
        return number

    assert wait_until(third) == 2


def test_wait_until_fails_with_the_name_of_the_condition() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.01 s: it rains"):
        wait_until(lambda: None, "it rains", bound=0.01)


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [
        ("brrr_testkit.servers.redis", "redis", "redis"),
        ("brrr_testkit.servers.nats_logins", "nkeys", "nats"),
    ],
)
def test_missing_library_names_the_extra_that_installs_it(module: str, library: str, extra: str) -> None:
    program = f"import sys; sys.modules[{library!r}] = None; import {module}"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert f"MissingExtraError: {library} is not installed: pip install 'brrr-testkit[{extra}]'" in ended.stderr
