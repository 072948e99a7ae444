"""A program that ends while handlers run ends soon, and its messages go back to their topic with no attempt counted."""

import asyncio

import pytest

import brrr_core as brrr
from brrr_testkit.workloads.endings import ENDINGS, HELD, TOPIC, ended

CASES = [  # brrr-sqlite has its own test of it
    pytest.param(kind, ending, marks=() if kind == "memory" or ending == "sigterm" else pytest.mark.exhaustive)
    for kind in ("memory", "redis", "nats")
    for ending in ENDINGS
]


@pytest.mark.parametrize(("url", "ending"), CASES, indirect=["url"])
async def test_program_ends_and_its_messages_come_back(url: str, ending: str) -> None:
    program = await asyncio.to_thread(ended, url.replace("lease=30s", "lease=1h"), ending)
    assert program.code == ENDINGS[ending].code, program.errors
    if url.startswith("memory"):
        return  # it ended with its process
    held = HELD + ENDINGS[ending].by_call
    back: set[bytes] = set()
    async with brrr.open_backend(url) as backend, asyncio.timeout(30):
        while len(back) < held - ENDINGS[ending].leased:
            back |= {each.body for each in await backend.queue.receive(TOPIC, limit=10, wait=20)}
        stats = await backend.queue.stats(TOPIC)
    assert stats.dead == 0
    assert stats.ready + stats.leased + stats.delayed >= held
