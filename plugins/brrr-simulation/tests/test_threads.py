"""Sync handlers run in threads, one at a time, and wait for calls in virtual time."""

import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

import brrr_core as brrr
from brrr_simulation import CheckFailedError, Effects, check


def shop(effects: Effects, *, story: list[object] | None = None, greedy: bool = False) -> Mapping[str, Any]:
    """Sync handlers that wait for calls and sleeps."""
    told = [] if story is None else story

    @brrr.handler
    def charge(app: brrr.ActiveWorker, number: int) -> int:
        effects.record("charge", number)
        told.append(("charge", number))
        return number

    @brrr.handler
    def order(app: brrr.ActiveWorker, number: int) -> int:
        told.append(("order", number))
        first = app.wait(app.call(charge)(number))
        app.wait(app.sleep("30d"))
        try:
            return sum(app.wait(app.gather(app.call(charge)(10), app.call(charge)(20)))) + first
        except BaseException:
            if greedy:
                return 0
            raise
        finally:
            told.append("finally")

    return {"charge": charge, "order": order}


def test_sync_handlers_wait_for_calls_in_virtual_time() -> None:
    before = threading.active_count()
    assert check(shop, "order", 7, seeds=range(20), at_least={"charge": 3}) == b"37"
    assert threading.active_count() == before


def test_story_of_sync_handlers_is_the_same_for_a_seed() -> None:
    stories = [list[object]() for _ in range(2)]
    for story in stories:
        check(partial(shop, story=story), "order", 7, seeds=[3])
    assert stories[0] == stories[1]
    assert stories[0].count(("order", 7)) > 2


def test_defer_that_a_sync_handler_swallows_is_found() -> None:
    with pytest.raises(CheckFailedError, match=r"'order' caught `Defer`"):
        check(partial(shop, greedy=True), "order", 7)


def test_thread_that_does_not_end_with_its_process_is_left_behind() -> None:
    @brrr.handler
    def stubborn(app: brrr.ActiveWorker) -> int:
        while True:
            try:
                return app.wait(app.event("never", returns=int))
            except BaseException as error:
                if "ProcessDied" not in repr(error):
                    raise

    async def complete(client: brrr.AppConsumer) -> None:
        await client.event("never").complete(1)

    assert check(lambda _: {"stubborn": stubborn}, "stubborn", clients=[complete], seeds=range(10)) == b"1"
