"""Programs that end while a handler runs: they do not hang, and the call has not failed by it."""

import asyncio
import signal
import sys

import pytest

import brrr_core as brrr
from brrr_testkit.workloads.fleet import TOPIC

PROGRAM = """
import asyncio, signal, sys
import brrr_core as brrr

async def leave() -> None:
    sys.exit(3)

@brrr.handler_no_arg
async def ends() -> None:
    tasks = {ending}
    await asyncio.sleep(600)

async def main() -> None:
    async with brrr.serve({url!r}, policy=brrr.Policy(max_attempts=1, grace=1)) as connection:
        app = brrr.AppWorker(handlers=dict(ends=ends), codec="json", connection=connection)
        await app.schedule(ends, topic={topic!r})()
        await connection.loop({topic!r}, app.handle)

asyncio.run(main())
"""
"""It gives a call up in its first attempt, so that a failure shows as a dead letter."""

ENDINGS = {
    "exit of a task": ("asyncio.create_task(leave())", 3),
    "exit of a callback": ("asyncio.get_running_loop().call_soon(sys.exit, 3)", 3),
    "two interrupts": ("[signal.raise_signal(signal.SIGINT) for _ in range(2)]", -signal.SIGINT),
    "cancelled tasks": ("[task.cancel() for task in asyncio.all_tasks()]", 1),
    "stopped loop": ("asyncio.get_running_loop().stop()", 1),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_program_ends_and_its_call_is_still_on_the_queue(url: str, ending: str) -> None:
    body, code = ENDINGS[ending]
    program = PROGRAM.format(url=url, topic=TOPIC, ending=body)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        _, said = await process.communicate()
    assert process.returncode == code, said.decode()
    if url.startswith("memory"):
        return  # it went with the process
    async with brrr.open_backend(url) as backend:
        stats = await backend.queue.stats(TOPIC)
    assert stats.dead == 0
    assert stats.ready + stats.leased + stats.delayed == 1
