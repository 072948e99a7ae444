"""A wrong value is never stored: arguments and results fit their annotations, or the call fails."""

from dataclasses import dataclass

import pytest

import brrr_core as brrr
from brrr_core.engine.hooks import CallFailed
from brrr_core.errors import DecodeError
from tests.support.fleet import BOUND, TOPIC, serving, until


class Failures:
    """Keeps the errors of failed attempts."""

    def __init__(self) -> None:
        self.seen: list[BaseException] = []

    @brrr.hookimpl
    def brrr_call_failed(self, event: CallFailed) -> None:
        self.seen.append(event.error)


@pytest.mark.parametrize("codec", ["json", "json-object", "msgpack"])
async def test_call_with_new_field_waits_for_worker_that_knows_it(memory: str, codec: str) -> None:
    @dataclass
    class OldOrder:
        amount: int

    @dataclass
    class NewOrder:
        amount: int
        discount: int = 0

    @brrr.handler_no_arg
    async def old_total(order: OldOrder) -> int:
        return order.amount

    @brrr.handler_no_arg
    async def new_total(order: NewOrder) -> int:
        return order.amount - order.discount

    failures = Failures()
    async with serving(memory, {"total": old_total}, hooks=[failures], codec=codec) as old:
        await old.app.schedule("total", topic=TOPIC)(order=NewOrder(10, 3))

        async def refused() -> bool:
            return bool(failures.seen)

        await until(refused)
    assert {type(error) for error in failures.seen} == {DecodeError}
    async with serving(memory, {"total": new_total}, codec=codec) as new:
        assert await new.app.result(new_total, timeout=BOUND)(NewOrder(10, 3)) == 7
