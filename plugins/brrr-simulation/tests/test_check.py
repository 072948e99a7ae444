"""The check of workflows: it passes correct ones, and says what is wrong with the others."""

import contextlib
import itertools
from collections.abc import Mapping
from typing import Any

import pytest

import brrr_core as brrr
from brrr_simulation import CheckFailedError, Effects, check


def shop(effects: Effects, *, keyed: bool = True, swallows: bool = False) -> Mapping[str, Any]:
    """An order that is charged, rests for a month, and is shipped."""
    accepted: set[str] = set()

    @brrr.handler
    async def charge(app: brrr.ActiveWorker, order: int) -> str:
        if not keyed or app.call_hash not in accepted:
            accepted.add(app.call_hash)
            effects.record("charge", order)
        return "charged"

    @brrr.handler
    async def order(app: brrr.ActiveWorker, number: int) -> str:
        try:
            paid = await app.call(charge)(number)
        except BaseException:
            if not swallows:
                raise
            paid = "later"
        await app.sleep("30d")
        return paid

    return {"charge": charge, "order": order}


def test_correct_workflow_passes_although_it_sleeps_for_a_month() -> None:
    assert check(shop, "order", 7, seeds=range(15), at_most={"charge": 1}, at_least={"charge": 1}) == b'"charged"'


def test_effect_without_a_key_is_found() -> None:
    with pytest.raises(CheckFailedError, match=r"'charge' of 7 took place 2 times.*app\.call_hash"):
        check(lambda effects: shop(effects, keyed=False), "order", 7, at_most={"charge": 1})


def test_story_has_runs_and_effects_and_few_faults() -> None:
    with pytest.raises(CheckFailedError) as found:
        check(lambda effects: shop(effects, keyed=False), "order", 7, at_most={"charge": 1})
    story = found.value.story
    assert story.count("charge [7] has the effect 'charge' of 7") == 2
    assert "order [7] waits for a sleep" in story
    assert 1 <= story.count(" fault ") <= 5
    assert found.value.__notes__ == [story]


def test_fault_after_a_long_wait_is_found() -> None:
    def handlers(_: Effects) -> Mapping[str, Any]:
        runs = itertools.count()

        @brrr.handler
        async def top(app: brrr.ActiveWorker) -> int:
            await app.sleep("30d")
            return next(runs)

        return {"top": top}

    with pytest.raises(CheckFailedError, match="'top' returned b'1', and without faults b'0'") as found:
        check(handlers, "top")
    assert any(line.startswith(" 2592") and " fault " in line for line in found.value.story.splitlines())


def test_fake_that_outlives_a_history_is_found() -> None:
    numbers = itertools.count()

    def handlers(_: Effects) -> Mapping[str, Any]:
        number = next(numbers)

        @brrr.handler_no_arg
        async def top() -> bool:
            return number == 1

        return {"top": top}

    with pytest.raises(CheckFailedError, match=r"^seed 0: .*some state outlives a history"):
        check(handlers, "top")


def test_missing_effect_is_found() -> None:
    with pytest.raises(CheckFailedError, match="'refund' took place 0 times"):
        check(shop, "order", 7, at_least={"refund": 1})


def test_swallowed_defer_is_found() -> None:
    with pytest.raises(CheckFailedError, match=r"'order' caught `Defer`.*`Exception` instead of `BaseException`"):
        check(lambda effects: shop(effects, swallows=True), "order", 7)


def test_handler_that_swallows_defer_forever_is_found() -> None:
    runs = itertools.count()

    def handlers(_: Effects) -> Mapping[str, Any]:
        @brrr.handler
        async def top(app: brrr.ActiveWorker) -> None:
            while True:
                next(runs)
                with contextlib.suppress(brrr.Defer):
                    await app.event("never")

        return {"top": top}

    with pytest.raises(CheckFailedError, match=r"'top' caught `Defer`"):
        check(handlers, "top")
    assert next(runs) < 1_000


def test_rerun_that_makes_other_calls_is_found() -> None:
    def wrong(_: Effects) -> Mapping[str, Any]:
        numbers = itertools.count()

        @brrr.handler_no_arg
        async def double(n: int) -> int:
            return 2 * n

        @brrr.handler
        async def top(app: brrr.ActiveWorker) -> int:
            return await app.call(double)(next(numbers))

        return {"double": double, "top": top}

    with pytest.raises(CheckFailedError, match=r"called double with b'\[0\]'.*but double with b'\[1\]' when it ran"):
        check(wrong, "top")


def test_client_completes_an_event() -> None:
    def handlers(_: Effects) -> Mapping[str, Any]:
        @brrr.handler
        async def top(app: brrr.ActiveWorker) -> int:
            return await app.event("approval", returns=int)

        return {"top": top}

    async def approve(client: brrr.AppConsumer) -> None:
        await client.event("approval").complete(5)

    assert check(handlers, "top", clients=[approve], seeds=range(10)) == b"5"


def test_calls_of_two_runs_that_differ_are_shown_side_by_side() -> None:
    def handlers(_: Effects) -> Mapping[str, Any]:
        runs = itertools.count()

        @brrr.handler_no_arg
        async def step(number: int) -> int:
            return number

        @brrr.handler
        async def order(app: brrr.ActiveWorker) -> None:
            await app.call(step)(1)
            await app.gather(app.call(step)(2), app.call(step)(10 + next(runs)))

        return {"step": step, "order": order}

    with pytest.raises(CheckFailedError) as found:
        check(handlers, "order", seeds=range(1))
    rows = [line.split() for line in str(found.value).splitlines()]
    assert ["call", "one", "run", "its", "re-run"] in rows
    assert ["1", "step", "[1]", "step", "[1]"] in rows
    assert any(row[:1] == ["3"] and row[3:4] == ["!="] for row in rows)
