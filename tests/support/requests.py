"""Workflows for the requests of clients: sagas that undo what they booked, an approval, and a tree whose leaf fails."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import brrr_core as brrr
from tests.support.scenarios import TOPIC, Stage, World

__all__ = ["CANCELLED", "Cancelling", "Retrying", "approvals", "broken", "cancel_sagas", "sagas"]

SAGAS: Final = (("one", 0), ("two", 60), ("forced", 0))
CANCELLED: Final = [["no hotel of one", "no flight of one"], ["no hotel of two", "no flight of two"], True, True, True]
"""The result of the sagas if all calls are cancelled: two compensate, and three calls fail as cancelled."""


async def cancel_sagas(client: brrr.AppConsumer) -> None:
    """Cancel a queued call, two sagas that compensate, one that fails, and by force one that does not compensate."""
    await client.cancel("queued", topic=TOPIC)()
    await client.cancel("saga", topic=TOPIC)("one", 0)
    await client.cancel("saga", topic=TOPIC)("two", 60)
    await client.cancel("strict", topic=TOPIC)()
    await client.cancel("saga", topic=TOPIC, force=True)("forced", 0)


def sagas(world: World) -> Mapping[str, Any]:
    """Two sagas, one that waits for a call and one that is busy itself, and a plain call that is queued."""

    @brrr.handler_no_arg
    async def book(thing: str) -> str:
        return thing

    @brrr.handler_no_arg
    async def undo(thing: str) -> str:
        return f"no {thing}"

    @brrr.handler_no_arg
    async def approve(name: str) -> None:
        if "approved" not in world.failed:
            raise brrr.Again(after=120.0)

    @brrr.handler
    async def saga(app: brrr.ActiveWorker, name: str, busy: float) -> list[str]:
        booked: list[str] = []
        try:
            for thing in ("hotel", "flight"):
                booked.append(await app.call(book)(f"{thing} of {name}"))  # noqa: PERF401 - also if cancelled halfway
            await asyncio.sleep(busy)
            await app.call(approve)(name)
        except brrr.Cancelled:
            return list(await app.gather(*(app.call(undo)(thing) for thing in booked)))
        return ["approved"]

    @brrr.handler
    async def strict(app: brrr.ActiveWorker) -> None:
        try:
            await app.call(approve)("strict")
        finally:
            await app.call(undo)("strict")

    @brrr.handler_no_arg
    async def queued() -> None:
        world.failed.add("queued call ran")

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> list[object]:
        running = (app.call(saga)(name, busy) for name, busy in SAGAS)
        outcomes = [*await app.gather(*running, app.call(strict)(), return_exceptions=True)]
        outcomes += await app.gather(app.call(queued)(), return_exceptions=True)
        return [each.cancelled if isinstance(each, brrr.CallFailedError) else each for each in outcomes]

    tasks = (book, undo, approve, saga, strict, queued, top)
    return {task.name: task for task in tasks}


def approvals(world: World) -> Mapping[str, Any]:
    """Two parents of one event."""

    @brrr.handler
    async def parent(app: brrr.ActiveWorker, number: int) -> int:
        return number + await app.event("approval", returns=int)

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(app.call(parent)(1), app.call(parent)(2)))

    return {"parent": parent, "top": top}


def broken(world: World) -> Mapping[str, Any]:
    """A tree whose leaf fails until the world is repaired, and a parent that has seen the failure and continues."""

    @brrr.handler_no_arg
    async def leaf() -> int:
        if "repaired" not in world.failed:
            raise brrr.TerminalError("broken")
        return 1

    @brrr.handler_no_arg
    async def slow() -> int:
        await asyncio.sleep(60)
        return 100

    @brrr.handler
    async def witness(app: brrr.ActiveWorker) -> int:
        seen = await app.gather(app.call(leaf)(), return_exceptions=True)
        return await app.call(slow)() + sum(isinstance(each, int) for each in seen)

    @brrr.handler
    async def middle(app: brrr.ActiveWorker) -> int:
        return 10 * await app.call(leaf)()

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> list[int]:
        return [await app.call(middle)() + await app.call(leaf)(), await app.call(witness)()]

    tasks = (leaf, slow, witness, middle, top)
    return {task.name: task for task in tasks}


class Cancelling:
    """A scenario: cancel running sagas, which compensate, and a call that is queued."""

    result = CANCELLED
    dead = 0
    handlers = staticmethod(sagas)

    async def begin(self, on: Stage) -> None:
        await on.client.schedule("queued", topic=TOPIC, delay=150)()
        await on.client.schedule("top", topic=TOPIC)()

    async def outside(self, on: Stage) -> None:
        await asyncio.sleep(70)  # virtual: by now all is booked, even after a fault
        await cancel_sagas(on.client)
        await on.client.result("top")()
        assert "queued call ran" not in on.world.failed
        on.world.failed.add("approved")  # so that the calls that they waited for end


class Retrying:
    """A scenario: retry a tree that has failed, while another parent has seen the failure."""

    result: Final = [11, 100]
    dead = 0
    handlers = staticmethod(broken)

    async def begin(self, on: Stage) -> None:
        await on.client.schedule("witness", topic=TOPIC)()
        await on.client.schedule("top", topic=TOPIC)()
        worker, connection = on.worker(handlers=self.handlers)
        await asyncio.sleep(20)  # virtual: by now all but the slow call is done
        await on.stop(worker, connection)
        on.world.failed.add("repaired")

    async def outside(self, on: Stage) -> None:
        assert await on.client.retry("top", topic=TOPIC)()
