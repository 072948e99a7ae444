"""Races on `app.state`: a lost change is reported with its lines, and everything else passes."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

import brrr_core as brrr
from brrr_simulation import CheckFailedError, Effects, check

Add = Callable[[brrr.ActiveWorker, int], Awaitable[None]]


@dataclass
class Totals:
    """The state of a worker."""

    amount: int = 0
    by_customer: dict[str, int] = field(default_factory=lambda: {"c": 0})
    counts: Counter[str] = field(default_factory=lambda: Counter({"c": 1}))
    client: object = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def add(self, number: int) -> None:
        """Add in a method of the program's own class."""
        amount = self.amount
        await asyncio.sleep(0.1)
        self.amount = amount + number


class Slotted:
    """The same with slots."""

    __slots__ = ("amount",)

    def __init__(self) -> None:
        self.amount = 0


def run(add: Add, make: Callable[[], object] = Totals, *, seeds: int = 3) -> Any:
    def handlers(_: Effects) -> Mapping[str, Any]:
        @brrr.handler
        async def adds(app: brrr.ActiveWorker, number: int) -> None:
            await add(app, number)

        @brrr.handler
        async def top(app: brrr.ActiveWorker) -> int:
            await app.gather(*(app.call(adds)(number) for number in range(1, 9)))
            return 8

        return {"add": adds, "top": top}

    @asynccontextmanager
    async def lifespan(app: brrr.AppWorker) -> AsyncGenerator[object, None]:
        yield make()

    return check(handlers, "top", lifespan=lifespan, seeds=range(seeds))


async def attribute(app: brrr.ActiveWorker, number: int) -> None:
    amount = app.state.amount
    await asyncio.sleep(0.1)
    app.state.amount = amount + number


async def augmented(app: brrr.ActiveWorker, number: int) -> None:
    app.state.amount += await asyncio.sleep(0.1, number)


async def method(app: brrr.ActiveWorker, number: int) -> None:
    await app.state.add(number)


async def nested_key(app: brrr.ActiveWorker, number: int) -> None:
    app.state.by_customer["c"] += await asyncio.sleep(0.1, number)


async def counter(app: brrr.ActiveWorker, number: int) -> None:
    count = app.state.counts["c"]
    await asyncio.sleep(0.1)
    app.state.counts["c"] = count + number


async def key(app: brrr.ActiveWorker, number: int) -> None:
    app.state["amount"] += await asyncio.sleep(0.1, number)


@pytest.mark.parametrize(
    ("add", "make", "path"),
    [
        (attribute, Totals, "app.state.amount"),
        (augmented, Totals, "app.state.amount"),
        (method, Totals, "app.state.amount"),
        (nested_key, Totals, "app.state.by_customer['c']"),
        (counter, Totals, "app.state.counts['c']"),
        (attribute, Slotted, "app.state.amount"),
        (attribute, lambda: SimpleNamespace(amount=0), "app.state.amount"),
        (key, lambda: {"amount": 0}, "app.state['amount']"),
    ],
)
def test_change_of_the_state_that_another_run_overwrites_is_found(
    add: Add, make: Callable[[], object], path: str
) -> None:
    with pytest.raises(CheckFailedError) as found:
        run(add, make)
    text = str(found.value)
    assert f"race for `{path}`: `add [" in text
    assert text.count("test_races.py:") == 3
    assert "hold an `asyncio.Lock`" in text


async def at_once(app: brrr.ActiveWorker, number: int) -> None:
    await asyncio.sleep(0.1)
    app.state.amount += number
    app.state.by_customer["c"] += number


async def locked(app: brrr.ActiveWorker, number: int) -> None:
    async with app.state.lock:
        await attribute(app, number)


async def read_again(app: brrr.ActiveWorker, number: int) -> None:
    if app.state.amount < 100:
        await asyncio.sleep(0.1)
        app.state.amount += number


async def lazy(app: brrr.ActiveWorker, number: int) -> None:
    if app.state.client is None:
        app.state.client = await asyncio.sleep(0.1, object())
    if number not in app.state.by_customer:
        app.state.by_customer[number] = await asyncio.sleep(0.1, object())


async def blind(app: brrr.ActiveWorker, number: int) -> None:
    app.state.amount = number
    await asyncio.sleep(0.1)
    app.state.amount = 0


async def equal(app: brrr.ActiveWorker, number: int) -> None:
    if app.state.amount == 0:
        app.state.amount = await asyncio.sleep(0.1, 1)


@pytest.mark.parametrize("add", [at_once, locked, read_again, lazy, blind, equal])
def test_correct_use_of_the_state_passes(add: Add) -> None:
    assert run(add) == b"8"


def test_state_behaves_as_without_the_check() -> None:
    seen: list[object] = []

    async def looks(app: brrr.ActiveWorker, number: int) -> None:
        state = app.state
        state.by_customer["d"] = number
        seen.append((isinstance(state, Totals), state.__class__ is Totals, isinstance(state.by_customer, dict)))
        seen.append((bool(state.by_customer.pop("d")), sorted({**state.by_customer}), state.counts.most_common(1)))
        seen.append((state == Totals(by_customer={"c": 0}, lock=state.lock), len(state.by_customer)))

    run(looks, seeds=1)
    assert set(map(str, seen)) == {"(True, True, True)", "(True, ['c'], [('c', 1)])", "(True, 1)"}
