"""An application with a call that fails, and boards on it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import pytest

import brrr_core as brrr
from brrr_board import Board
from brrr_board.commands import _listen, _serve
from brrr_testkit.servers.redis import redis_server
from brrr_testkit.workloads.fleet import QUICK, Fleet, serving

__all__ = ["redis_server"]

TOPIC = "orders"
MARKUP = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"


class Bank:
    """Charges, unless it is closed."""

    def __init__(self) -> None:
        self.closed = True

    def handlers(self) -> dict[str, brrr.Task]:
        @brrr.handler_no_arg
        async def charge(order: int) -> int:
            if self.closed:
                raise RuntimeError(f"the bank is closed {MARKUP}")
            return order * 100

        @brrr.handler_no_arg
        async def reserve(order: int) -> str:
            return f"reserved {order}"

        @brrr.handler(replay=True)
        async def order(app: brrr.ActiveWorker, number: int) -> list[Any]:
            return list(await app.gather(app.call(reserve)(number), app.call(charge)(number)))

        return {"order": order, "charge": charge, "reserve": reserve}


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
async def fleet(bank: Bank) -> AsyncIterator[Fleet]:
    """Workers on which the order 7 is dead-lettered."""
    policy = replace(QUICK, max_attempts=1)
    async with serving(f"memory:{uuid4()}", bank.handlers(), policy=policy, topics=[TOPIC]) as running:
        await running.app.schedule("order", topic=TOPIC)(7)
        await running.dead(1)
        yield running


Site = Callable[[Board], AbstractAsyncContextManager[str]]


@pytest.fixture
def site() -> Site:
    """Serve a board as `brrr board` does."""

    @asynccontextmanager
    async def served(board: Board) -> AsyncGenerator[str]:
        with _listen("127.0.0.1", 0) as listening:
            async with board:
                serving = asyncio.create_task(_serve(board, listening))
                try:
                    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
                finally:
                    serving.cancel()
                    await asyncio.gather(serving, return_exceptions=True)

    return served


def visitor(board: Board, *, address: str = "127.0.0.1", host: str = "localhost:8090") -> httpx.AsyncClient:
    """Return a client of a board without a socket."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(board, client=(address, 4000)), base_url=f"http://{host}")
