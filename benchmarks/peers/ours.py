"""`brrr worker` runs the handlers with its default settings. The client is an `AppConsumer` in another process.

The worker runs on uvloop, which the extra `brrr-cli[uvloop]` installs. A parent awaits its calls, and the engine stores
each of them. All parents of the shared child make the same call. So each workload is written as a user would write it,
in `benchmarks/workloads.py`.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import brrr_core as brrr
from benchmarks.peers.driver import TOPIC, drive

_client: brrr.AppConsumer


@asynccontextmanager
async def _opened() -> AsyncIterator[None]:
    global _client  # noqa: PLW0603 - the program has one client, as those of the peers do
    async with brrr.connect(os.environ["BRRR_QUEUE"]) as connection:
        _client = brrr.AppConsumer(codec="json", connection=connection)
        yield


async def _call(task: str, *arguments: Any) -> Any:
    await _client.schedule(task, topic=TOPIC)(*arguments)
    return await _client.result(task)(*arguments)


async def _independent(count: int, run: str) -> list[Any]:
    return await asyncio.gather(*(_call("leaf", index, run) for index in range(count)))


if __name__ == "__main__":
    drive(_call, _independent, _opened())
