"""Make the pictures of docs/how-to/watch-in-a-browser.md, with a headless Chromium: python -m tools.board_pictures."""

import asyncio
import sys
from itertools import cycle
from pathlib import Path
from typing import Final

import uvicorn

import brrr_core as brrr
from brrr_board import Board
from brrr_testkit.browser import Page, open_page

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "how-to"
TOPICS: Final = ("invoices", "mails", "orders", "thumbnails")
ROUNDS: Final = 12
WIDTH: Final = 1000


@brrr.handler_no_arg(max_attempts=1)
async def charge(order: int) -> str:
    """Fail for one order."""
    if order == 7:
        raise TimeoutError("the bank does not answer")
    return f"charged {order}"


@brrr.handler_no_arg
async def reserve(order: int) -> str:
    """Succeed."""
    return f"reserved {order}"


@brrr.handler(replay=True)
async def order(app: brrr.ActiveWorker, number: int) -> list[str]:
    """Make two calls."""
    return list(await app.gather(app.call(reserve)(number), app.call(charge)(number)))


@brrr.handler(replay=True)
async def day(app: brrr.ActiveWorker) -> list[list[str]]:
    """Make a call for each order."""
    return list(await app.gather(*map(app.call(order), range(5, 10))))


HANDLERS: Final = {"charge": charge, "reserve": reserve, "order": order, "day": day}


async def main() -> None:
    """Write the pictures."""
    async with brrr.serve("memory:") as connection:
        app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection)
        worker = asyncio.create_task(connection.loop("orders", app.handle))
        scheduled = await app.schedule(day, topic="orders")()
        async with Board(connection, handlers=HANDLERS, topics=TOPICS, allow_changes=True) as board:
            config = uvicorn.Config(board, port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve())
            await _fill(connection)
            port = server.servers[0].sockets[0].getsockname()[1]
            async with open_page() as page:
                base = f"http://127.0.0.1:{port}"
                await _take(page, f"{base}/", "board-topics.png", height=380)
                await _take(page, f"{base}/topic?name=orders", "board-letters.png", height=380)
                await _take(page, f"{base}/call?hash={scheduled.call_hash}", "board-call.png", height=740)
            board.stop()
            server.should_exit = True
            await serving
        connection.stop()
        await worker


async def _fill(connection: brrr.Connection) -> None:
    """Let the depths of the topics change over some samples."""
    amounts = cycle((30, 55, 20, 0, 70, 10, 45))
    for _ in range(ROUNDS):
        for topic in ("mails", "thumbnails"):
            await connection.queue.put(topic, [b"x"] * next(amounts))
            taken = await connection.queue.receive(topic, limit=next(amounts) or 1, wait=0)
            await connection.queue.ack(taken)
        await asyncio.sleep(2)


async def _take(page: Page, address: str, name: str, *, height: int) -> None:
    await page.resize(WIDTH, height)
    await page.open(address)
    await page.wait_until("document.getElementById('state').textContent === 'live'")
    await asyncio.to_thread((FOLDER / name).write_bytes, await page.screenshot())
    print(f"wrote {name}")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
