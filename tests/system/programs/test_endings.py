"""However a program of the user's own comes to its end, it ends soon, and what it held goes back to its topic."""

import asyncio

import pytest

import brrr_core as brrr
from brrr_testkit.workloads.endings import ENDINGS, HELD, TOPIC, ended


@pytest.mark.parametrize("url", ["memory", "redis", "nats"], indirect=True)  # brrr-sqlite has its own test of it
@pytest.mark.parametrize("ending", ENDINGS)
async def test_program_ends_and_its_messages_come_back(url: str, ending: str) -> None:
    await asyncio.to_thread(ended, url.replace("lease=5s", "lease=1h"), ending)
    if url.startswith("memory"):
        return  # it ended with its process
    back: set[bytes] = set()
    async with brrr.open_backend(url) as backend, asyncio.timeout(30):
        while len(back) < HELD:
            back |= {each.body for each in await backend.queue.receive(TOPIC, limit=10, wait=20)}
