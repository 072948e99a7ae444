"""A program with an open SQLite backend ends in time, and leaves its messages to the next program."""

import asyncio
import gc
import threading
from typing import Any

import pytest

from brrr_testkit.waiting import until
from brrr_testkit.workloads.endings import ENDINGS, HELD, TOPIC, ended

QUICK = {"sigterm", "two_interrupts_at_once", "exit_in_a_callback", "cancel_all_tasks"}
"""The endings of a quick run: a signal, an interrupt, an exit, a cancellation. The core's tests run all on memory."""

CASES = [pytest.param(ending, marks=() if ending in QUICK else pytest.mark.exhaustive) for ending in ENDINGS]


@pytest.mark.parametrize("ending", CASES)
async def test_program_ends_and_releases_its_messages(make: Any, path: Any, ending: Any) -> None:
    await asyncio.to_thread(ended, f"sqlite:///{path}?lease=1h", ending)
    async with make() as backend:
        stats = await backend.queue.stats(TOPIC)
        assert (stats.leased, stats.dead) == (ENDINGS[ending].leased, 0)
        assert stats.ready + stats.leased + stats.delayed >= HELD + ENDINGS[ending].by_call


NEVER_CLOSED = """
async def main():
    b = backend()
    await b.open()
    await b.queue.put("t", [b"x"])
    say("put")
    return b
"""


@pytest.mark.parametrize("held", ["kept = asyncio.run(main())", "asyncio.run(main())"], ids=["kept", "forgotten"])
async def test_unclosed_backend_does_not_keep_the_interpreter_alive(make: Any, processes: Any, held: Any) -> None:
    program = processes.start(f"import warnings; warnings.simplefilter('ignore')\n{NEVER_CLOSED}\n{held}")
    assert (await asyncio.to_thread(program.communicate, timeout=30))[0] == "put\n"
    assert program.returncode == 0
    async with make() as backend:
        assert (await backend.queue.stats("t")).ready == 1


async def test_garbage_collected_unclosed_backend_warns_and_ends_its_thread(make: Any) -> None:
    before = set(threading.enumerate())
    await make().open()
    with pytest.warns(ResourceWarning, match="never closed"):
        gc.collect()
    await until(lambda: set(threading.enumerate()) <= before)
