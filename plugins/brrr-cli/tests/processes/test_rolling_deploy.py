"""A rolling deployment: processes with old and new code of one workflow share a topic, and one of them is killed."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import brrr_core as brrr
from brrr_testkit.waiting import until

Shell = Any
Running = Any

TIMEOUT = 60.0
ORDERS = 20
TOPICS = ["shop", "shop-v1", "charges"]

COMMON = """
import pathlib
import brrr_core as brrr

@brrr.handler_no_arg
async def approve(n: int) -> None:
    pathlib.Path(f"waits-{n}").touch()
    if not pathlib.Path("go").exists():
        raise brrr.Again(after=0.1)
"""

OLD = f"""{COMMON}
@brrr.handler_no_arg
async def pack(n: int) -> str:
    return f"{{n}} packed"

@brrr.handler(version=1)
async def order(app: brrr.ActiveWorker, n: int) -> str:
    pathlib.Path(f"old-{{n}}").touch()
    await app.call(approve)(n)
    return f"old code: {{await app.call(pack)(n)}}"
"""

NEW = f"""{COMMON}
@brrr.handler_no_arg
async def charge(n: int) -> None: ...

@brrr.handler_no_arg
async def pack(n: int, gift: brrr.Added[bool] = False) -> str:
    return f"{{n}} packed{{' as a gift' if gift else ''}}"

@brrr.handler(version=2, old_topics={{1: "shop-v1"}})
async def order(app: brrr.ActiveWorker, n: int) -> str:
    pathlib.Path(f"new-{{n}}").touch()
    await app.call(charge, topic="charges")(n)
    await app.call(approve)(n)
    return f"new code: {{await app.call(pack)(n, gift=n % 2 == 1)}}"
"""


class Deployment:
    """The processes of one deployment, and a client."""

    def __init__(self, shell: Shell, app: brrr.AppConsumer, connection: brrr.Connection) -> None:
        self.shell = shell
        self.app = app
        self.connection = connection
        for name, text in (("old", OLD), ("new", NEW)):
            (shell.folder / f"{name}.py").write_text(text)

    def worker(self, code: str, *topics: str) -> Running:
        topics_ = [word for topic in topics for word in ("--topic", topic)]
        return self.shell.start(self.shell.program, "worker", code, *topics_, "--concurrency", "4", "-v")

    async def schedule(self, first: int, last: int) -> None:
        """Schedule orders, and wait until each waits for its approval."""
        for n in range(first, last):
            await self.app.schedule("order", topic="shop")(n)
        await until(lambda: len(self.numbers("waits")) == last, f"{last} orders wait", bound=TIMEOUT)

    def numbers(self, name: str) -> set[int]:
        """Return the numbers of the orders that left a file of that name."""
        return {int(path.name.rpartition("-")[2]) for path in Path(self.shell.folder).glob(f"{name}-*")}

    async def results(self, numbers: range) -> list[Any]:
        return [await self.app.result("order", timeout=TIMEOUT)(n) for n in numbers]


async def test_each_order_finishes_with_the_code_that_began_it(shell: Shell, url: str) -> None:
    async with brrr.connect(url) as connection:
        deployment = Deployment(shell, brrr.AppConsumer(codec="json", connection=connection), connection)
        old = [deployment.worker("old", "shop") for _ in range(2)]
        await deployment.schedule(0, ORDERS)
        assert deployment.numbers("new") == set()

        deployment.worker("new", "shop", "charges")
        await deployment.schedule(ORDERS, 2 * ORDERS)
        begun_with_new = deployment.numbers("new") - deployment.numbers("old")
        deployment.worker("old", "shop-v1")
        old[0].signal(signal.SIGKILL)
        old[1].signal(signal.SIGTERM)
        assert await asyncio.to_thread(old[1].ended) == 0
        await deployment.schedule(2 * ORDERS, 3 * ORDERS)
        (shell.folder / "go").touch()

        results = await deployment.results(range(3 * ORDERS))
        for n, result in enumerate(results):
            code = result.partition(" code")[0]
            assert result == f"{code} code: {n} packed" + (" as a gift" if code == "new" and n % 2 else "")
            # One run of an order may have been taken over by the other code before it waited, and not later.
            assert (code == "old") if n < ORDERS else (code == "new" or n in deployment.numbers("old"))
            assert code == "new" or n not in begun_with_new
        assert {result[:3] for result in results[ORDERS : 2 * ORDERS]} <= {"old", "new"}
        assert {result[:3] for result in results[2 * ORDERS :]} == {"new"}
        for topic in TOPICS:
            assert (await connection.queue.stats(topic)).dead == 0
