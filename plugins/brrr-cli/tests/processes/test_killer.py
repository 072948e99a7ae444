"""`brrr worker` with a call that kills its process, among healthy calls."""

from typing import Any

import brrr_core as brrr

Shell = Any

TIMEOUT = 60.0
HEALTHY = 40


async def test_killer_among_healthy_calls_is_the_only_dead_letter(shell: Shell, url: str) -> None:
    async with brrr.connect(url) as connection:
        client = brrr.AppConsumer(codec="json", connection=connection)
        for n in range(HEALTHY):
            await client.schedule("naps", topic="demo")(n)
            if n == HEALTHY // 2:
                await client.schedule("kills", topic="demo")()

        worker = shell.worker("--processes", "3", "--concurrency", "64")

        for n in range(HEALTHY):
            assert await client.result("naps", timeout=TIMEOUT)(n) == n
        worker.says("a dead letter on demo")
        (letter,) = await connection.queue.dead("demo", limit=HEALTHY)
        assert "ended its worker process 3 times while it ran alone" in letter.reason
        worker.signal(15)
        assert worker.ended() == 0
        assert await connection.queue.stats("demo") == (0, 0, 0, 1)
