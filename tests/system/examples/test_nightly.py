"""examples/nightly.py: orders are undone if they fail or are cancelled, while workers are killed."""

import asyncio
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Any

import pytest

import brrr_core as brrr
import brrr_cron
from brrr_core.backend import Key
from brrr_testkit.waiting import until
from examples import nightly
from examples.nightly import UNDO, Order
from tests.system.examples.conftest import TIMEOUT, Fleet

WORKER = ("examples.nightly", "--topic", "shop", "--lifespan", "quick:lifespan")
ITEMS = [Order("lamp", 40, "0.1s"), Order("desk", 900, "0.1s"), Order("sofa", 300, "1h"), Order("bed", 60, "1h")]
QUICK = f"""
import brrr_cron
from examples import nightly
from examples.nightly import Order, lifespan

nightly.APPROVAL_TIME, nightly.ORDER_TIME = "3s", "7s"
nightly.ORDERS = {ITEMS}
SCHEDULES = [brrr_cron.every("*/5 * * * * *", nightly.nightly, name="quick")]
"""
"""The example with short waits, and a night every five seconds."""


def happened(fleet: Fleet) -> list[tuple[str, str, str]]:
    """Return the key, the step and the order of all that happened outside, in order."""
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(fleet.folder / "world.db")) as db:
        return db.execute("SELECT key, step, number FROM happened ORDER BY rowid").fetchall()
    return []


async def outcome(fleet: Fleet, order: Order) -> str:
    """Wait for the outcome of an order."""
    try:
        return await fleet.client.result(nightly.fulfil, timeout=TIMEOUT)(order)
    except brrr.CallFailedError as error:
        return nightly.describe(error)


async def effect(fleet: Fleet, step: str, order: Order) -> tuple[str, str, str] | None:
    """Return the effect in the outside world that the stored outcome of a step implies."""
    try:
        await fleet.client.read(nightly.do)(step, order)
    except (brrr.NotFoundError, brrr.CallFailedError):
        return None
    return fleet.client._catalogue.encode(nightly.do, (step, order), {}).call_hash, step, order.number


async def check(fleet: Fleet, outcomes: dict[Order, str]) -> None:
    """Check that each order was shipped, or undone, and that outcomes and effects are the same."""
    effects = happened(fleet)
    for order, seen in outcomes.items():
        assert await outcome(fleet, order) == seen
        steps = [step for _, step, number in effects if number == order.number]
        done = [step for step in steps if step in UNDO]
        undone = [] if seen == "shipped" else [UNDO[step] for step in reversed(done)]
        assert steps == [*done, *undone], (order, seen)
        assert seen != "shipped" or done == [*UNDO]
        assert seen != "the card was declined" or done == ["reserve"]
    stored = [await effect(fleet, step, order) for order in outcomes for step in (*UNDO, *UNDO.values())]
    numbers = {order.number for order in outcomes}
    assert {each for each in stored if each} == {each for each in effects if each[2] in numbers}
    assert await fleet.dead("shop") == []


@pytest.fixture
def shop(fleet: Fleet) -> Fleet:
    (fleet.folder / "quick.py").write_text(QUICK)
    return fleet


@pytest.mark.usefixtures("round_")
async def test_orders_are_shipped_or_undone_while_workers_are_killed(shop: Fleet) -> None:
    short = [
        Order(f"{item.number} {n}", item.euros, f"{shop.dice.uniform(0, 4):.2f}s") for n in range(5) for item in ITEMS
    ]
    long = [Order(f"piano {n}", 400, "1h") for n in range(8)]
    for order in (*short, *long):
        await shop.client.schedule(nightly.fulfil, topic="shop")(order)

    async def cancel(order: Order) -> None:
        await asyncio.sleep(shop.dice.uniform(0, 3))  # any moment will do
        await shop.client.cancel(nightly.fulfil, topic="shop")(order)

    shop.start(*WORKER, count=3)
    await until(lambda: happened(shop), "the orders begin", bound=TIMEOUT)
    async with shop.killing(6):
        await asyncio.gather(*map(cancel, (*short[::2], *long)))
        ends = await asyncio.gather(*(outcome(shop, order) for order in (*short, *long)))

    outcomes = dict(zip((*short, *long), ends, strict=True))
    await check(shop, outcomes)
    assert {outcomes[order] for order in long} == {"cancelled"}
    assert any(step == "release" for _, step, number in happened(shop) if number.startswith("piano"))


@pytest.mark.usefixtures("round_")
async def test_night_waits_for_approval_and_for_orders_in_time(shop: Fleet) -> None:
    shop.start(*WORKER, "--schedules", "quick:SCHEDULES", count=3)
    begun = Key("value", "brrr.cron/quick")

    async def schedule_has_begun() -> Any:
        return (await shop.connection.store.read([begun]))[0]

    await until(schedule_has_begun, bound=TIMEOUT)
    ticks = brrr_cron.every("*/5 * * * * *", nightly.nightly)
    first = ticks.next(datetime.now(UTC))
    approved, ignored = (f"{tick:%Y-%m-%dT%H:%M:%SZ}" for tick in (first, ticks.next(first)))
    lamp, desk, sofa, bed = (Order(f"{approved} {item.number}", item.euros, item.reflection) for item in ITEMS)
    async with shop.killing(6):
        assert await shop.client.event("approval", approved).complete(True)
        await until(lambda: any(each[1:] == ("reserve", bed.number) for each in happened(shop)), bound=TIMEOUT)
        await shop.client.cancel(nightly.fulfil, topic="shop")(bed)
        report = await shop.client.result(nightly.nightly, timeout=TIMEOUT)(approved)
        refused = await shop.client.result(nightly.nightly, timeout=TIMEOUT)(ignored)

    ends = {lamp.number: "shipped", desk.number: "the card was declined", bed.number: "cancelled"}
    assert report.pop(sofa.number) == "continues"
    assert all(seen in (ends[number], "continues") for number, seen in report.items()), report
    assert refused == {f"{ignored} {item.number}": "not approved" for item in ITEMS}
    assert not any(number.startswith(ignored) for _, _, number in happened(shop))
    await shop.client.cancel(nightly.fulfil, topic="shop")(sofa)  # it has continued after its deadline
    outcomes = {order: await outcome(shop, order) for order in (lamp, desk, sofa, bed)}
    assert outcomes == {lamp: "shipped", desk: "the card was declined", sofa: "cancelled", bed: "cancelled"}
    await check(shop, outcomes)
