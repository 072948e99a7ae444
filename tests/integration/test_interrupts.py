"""A second SIGINT ends a program at any moment, even between two lines of the event loop."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, signal, sys
from collections import deque

import brrr_core as brrr

class Ready(deque):
    '''The callbacks of an event loop. SIGINT arrives when the loop has taken the given one.'''

    left = 0
    over = False

    def popleft(self):
        taken = super().popleft()
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)
        return taken

async def work(url, place):
    loop = asyncio.get_running_loop()
    loop._ready = ready
    try:
        async with brrr.serve(url, policy=brrr.Policy(grace=0.1)) as connection:
            held = asyncio.Event()

            @brrr.handler_no_arg
            async def hold(place):
                held.set()
                await asyncio.Event().wait()

            async def interrupt():
                await held.wait()
                ready.left = place
                signal.raise_signal(signal.SIGINT)

            app = brrr.AppWorker(handlers={"hold": hold}, codec="json", connection=connection)
            await app.schedule("hold", topic="topic")(place)
            loop.create_task(interrupt())
            await connection.loop("topic", app.handle)
    finally:
        if ready.left > 0:
            ready.left, ready.over = 0, True

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background processes ignore SIGINT
ready = Ready()
place = 0
while not ready.over:
    place += 1
    try:
        asyncio.run(work(sys.argv[1], place))
    except KeyboardInterrupt:
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
print(place)
"""


@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
def test_program_ends_wherever_second_interrupt_arrives(scheme: str, tmp_path: Path) -> None:
    url = "memory:" if scheme == "memory" else f"sqlite:///{tmp_path}/brrr.db"

    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, url], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 10


IN_TASKS = """
import asyncio, inspect, signal, sys

import brrr_core as brrr
from brrr_core.engine import worker
from brrr_core.plugins.opening import open_backend

class Interrupter:
    '''Raises SIGINT, and again when the worker makes the given call, but not while it releases running deliveries.'''

    left = 0
    over = False

    def begin(self, place):
        self.left = place
        signal.raise_signal(signal.SIGINT)

    def watch(self, owner, name, function):
        def watched(*args):
            self.over = self.over or self.left > 0 and name == "_release_running"
            self.left -= 1
            if self.left == 0 and not self.over:
                signal.raise_signal(signal.SIGINT)
            return function(*args)

        setattr(owner, name, watched)

async def work(url, place):
    async with brrr.serve(url, policy=brrr.Policy(grace=0.05)) as connection:
        held = asyncio.Event()

        @brrr.handler_no_arg
        async def hold(place):
            held.set()
            await asyncio.Event().wait()

        async def interrupt():
            await held.wait()
            interrupter.begin(place)

        app = brrr.AppWorker(handlers={"hold": hold}, codec="json", connection=connection)
        await app.schedule("hold", topic=f"topic{place}")(place)
        interrupting = asyncio.create_task(interrupt())
        await connection.loop(f"topic{place}", app.handle)

async def leased(url, place):
    async with open_backend(url) as backend:
        return (await backend.queue.stats(f"topic{place}")).leased

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background processes ignore SIGINT
interrupter = Interrupter()
for owner in (worker, worker.Worker):
    for name, function in list(vars(owner).items()):
        if inspect.isfunction(function) and function.__module__ == worker.__name__ and name != "__init__":
            interrupter.watch(owner, name, function)
place = 0
while not interrupter.over:
    place += 1
    try:
        asyncio.run(work(sys.argv[1], place))
    except KeyboardInterrupt:
        pass
    assert asyncio.run(leased(sys.argv[1], place)) == 0, place
print(place)
"""


def test_messages_are_released_wherever_second_interrupt_finds_the_worker(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/brrr.db?lease=1h"

    ended = subprocess.run(
        [sys.executable, "-c", IN_TASKS, url], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 3
