"""A nightly batch: cron, an approval, a deadline, a sleep, and orders that undo their steps if they fail.

Set BRRR_QUEUE, for example to sqlite:///nightly.db, and start some workers in one folder: `brrr worker examples.nightly
--topic shop --lifespan examples.nightly:lifespan --schedules examples.nightly:SCHEDULES`. Each night at 3:00 waits for
you: `brrr complete approval 2026-11-27T03:00:00Z --event --value true`. Or begin one yourself: `brrr schedule nightly
2026-11-27T03:00:00Z --topic shop`.
"""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import brrr_core as brrr
import brrr_cron
from brrr_core.errors import DeadlineExceededError

APPROVAL_TIME, ORDER_TIME = "8h", "2h"  # how long a night waits for its approval, and for its orders
UNDO = {"reserve": "release", "charge": "refund", "ship": "recall"}  # the steps of an order, and how to undo them


@dataclass(frozen=True)
class Order:
    """An order. After the first step, the customer has some time for reflection."""

    number: str
    euros: int
    reflection: str


ORDERS = [Order("lamp", 40, "10m"), Order("desk", 900, "10m"), Order("sofa", 300, "30d")]


class World(NamedTuple):
    """The outside world: a table of events. It recognises a repeated request by its key."""

    path: Path

    def do(self, key: str, step: str, number: str) -> None:
        """Do a step of an order, once for each key."""
        with closing(sqlite3.connect(self.path, timeout=30)) as db, db:
            db.execute("CREATE TABLE IF NOT EXISTS happened (key TEXT PRIMARY KEY, step TEXT, number TEXT)")
            db.execute("INSERT OR IGNORE INTO happened VALUES (?, ?, ?)", (key, step, number))


@asynccontextmanager
async def lifespan(_app: brrr.AppWorker) -> AsyncIterator[World]:
    """Make the state that all calls of a worker share."""
    yield World(Path("world.db"))


@brrr.handler
async def nightly(app: brrr.ActiveWorker, night: str) -> dict[str, str]:
    """Fulfil the orders of a day if a person approves them in time. The argument is the time of the tick."""
    orders = await app.call(collect)(night)
    try:
        approved = await app.event("approval", night, deadline=APPROVAL_TIME, returns=bool)
    except DeadlineExceededError:
        approved = False
    if not approved:
        return {order.number: "not approved" for order in orders}
    calls = [app.call(fulfil, deadline=ORDER_TIME, key=order.number)(order) for order in orders]
    outcomes = await app.gather(*calls, return_exceptions=True)
    return {order.number: describe(outcome) for order, outcome in zip(orders, outcomes, strict=True)}


def describe(outcome: object) -> str:
    """Say how an order ended. A late order continues: the deadline only ends the wait of this night."""
    if isinstance(outcome, brrr.CallFailedError):
        return "cancelled" if outcome.cancelled else outcome.reason
    return "continues" if isinstance(outcome, DeadlineExceededError) else str(outcome)


@brrr.handler_no_arg
async def collect(night: str) -> list[Order]:
    """List the orders of a day. The list is stored, so all runs of the night see the same."""
    return [Order(f"{night} {order.number}", order.euros, order.reflection) for order in ORDERS]


@brrr.handler
async def fulfil(app: brrr.ActiveWorker, order: Order) -> str:
    """Do the steps of an order. If one fails, or if the order is cancelled, undo those that have begun.

    Calls in `except` are durable too: if the worker dies there, another one continues.
    """
    begun: list[str] = []
    try:
        for step in UNDO:
            begun.append(step)
            await app.call(do)(step, order)
            if step == "reserve":
                await app.sleep(order.reflection)
    except (brrr.CallFailedError, brrr.Cancelled):
        for step in reversed(begun):
            await undo(app, step, order)
        raise
    return "shipped"


async def undo(app: brrr.ActiveWorker, step: str, order: Order) -> None:
    """Undo a step. It may still run if the order was cancelled. So wait for its outcome first: equal calls are one."""
    try:
        await app.call(do)(step, order)
    except brrr.CallFailedError:
        return  # the step has failed, and there is nothing to undo
    await app.call(do)(UNDO[step], order)


@brrr.handler
def do(app: brrr.ActiveWorker[World], step: str, order: Order) -> None:
    """Do a step in the outside world. The hash of the call is its key, because it is the same in every run."""
    if step == "charge" and order.euros > 500:
        raise brrr.TerminalError("the card was declined")
    app.state.do(app.call_hash, step, order.number)


SCHEDULES = [brrr_cron.every("0 3 * * *", nightly)]
