"""SIGTERM in a program of the user's own: the program ends, and a forked child does not end its parent."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

BEGIN = """
import asyncio, multiprocessing, os, signal, sys, threading, time
import brrr_core as brrr

multiprocessing = multiprocessing.get_context("fork")

def say(text):
    print(text, flush=True)

@brrr.handler_no_arg
async def forks() -> int:
    child = multiprocessing.Process(target=time.sleep, args=(3600,))
    child.start()
    child.terminate()  # at once: the child has hardly begun
    child.join()
    return child.exitcode

@brrr.handler_no_arg
def forks_in_thread() -> int:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(3))
        os.write(writer, b"!")
        time.sleep(3600)
    os.read(reader, 1)
    os.kill(child, getattr(signal, sys.argv[1]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

@brrr.handler_no_arg
async def waits() -> None:
    say("ready")
    await asyncio.sleep(3600)

handlers = dict(forks=forks, forks_in_thread=forks_in_thread, waits=waits)

async def work(connection, policy=None):
    app = brrr.AppWorker(handlers=handlers, codec="json", connection=connection)
    await connection.loop("t", app.handle)
    say("loop ended")

def serve(grace):
    return brrr.serve("memory:", policy=brrr.Policy(grace=grace))
"""

FORKS = """
async def main():
    async with serve(grace=1) as connection:
        worker = asyncio.create_task(work(connection))
        app = brrr.AppConsumer(codec="json", connection=connection)
        for task in (forks, forks_in_thread) * 5:
            await app.schedule(task, topic="t", redrive=True)()
            say(await app.result(task, timeout=30)())
        assert not worker.done()
        connection.stop()
        await worker

asyncio.run(main())
"""

# What a program does after SIGTERM, with its exit code and with what it says.
WAITS = """
async def main():
    try:
        async with serve(grace=3600) as connection:
            worker = asyncio.create_task(work(connection))
            await asyncio.sleep(0.1)
            say("ready")
            await asyncio.sleep(3600)
    finally:
        say("cleaned up")
"""

BUSY = """
async def main():
    async with serve(grace=0.5) as connection:
        worker = asyncio.create_task(work(connection))
        app = brrr.AppConsumer(codec="json", connection=connection)
        await app.schedule(waits, topic="t")()
        await app.result(waits)()
"""

CLEANS_UP = """
async def main():
    async with serve(grace=3600) as connection:
        asyncio.get_running_loop().call_later(0.1, say, "ready")
        await work(connection)
        await asyncio.sleep(3)  # longer than others may linger
        say("cleaned up")
"""

CLEANS_UP_TOO_LONG = """
async def main():
    async with serve(grace=0.1) as connection:
        asyncio.get_running_loop().call_later(0.1, say, "ready")
        await work(connection)
        await asyncio.sleep(3600)
"""

OWN_HANDLER = """
async def main():
    async with serve(grace=3600) as connection:
        worker = asyncio.create_task(work(connection))
        await asyncio.sleep(0.1)
        requested = asyncio.Event()
        {install}
        say("ready")
        await requested.wait()
        await asyncio.sleep(0.2)
        say(worker.done())
        connection.stop()
        await worker
        await asyncio.sleep(0)
        say(signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL)
"""

LOOP_HANDLER = OWN_HANDLER.format(
    install="asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, requested.set)"
)
PLAIN_HANDLER = OWN_HANDLER.format(
    install="signal.signal(signal.SIGTERM, lambda *_: asyncio.get_running_loop().call_soon_threadsafe(requested.set))"
)


@contextmanager
def program(text: str, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A running program with the handlers."""
    # Python 3.12 warns of a fork beside threads, which is what these handlers do.
    quiet = ["-W", "ignore:This process:DeprecationWarning"]
    command = [sys.executable, *quiet, "-c", BEGIN + text, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 3), ("SIGKILL", -signal.SIGKILL)])
def test_signal_to_forked_child_ends_the_child_and_not_its_parents_loop(name: str, code: int) -> None:
    with program(FORKS, name) as process:
        out, err = process.communicate(timeout=60)

    assert (process.returncode, err) == (0, b"")
    assert set(out.decode().split("\n")) == {str(-signal.SIGTERM), str(code), "loop ended", ""}


@pytest.mark.parametrize(
    ("text", "said", "code"),
    [
        pytest.param(WAITS, ["loop ended", "cleaned up"], 128 + signal.SIGTERM, id="waits forever"),
        pytest.param(BUSY, ["loop ended"], 128 + signal.SIGTERM, id="waits for a result"),
        pytest.param(CLEANS_UP, ["loop ended", "cleaned up"], 0, id="cleans up"),
        pytest.param(CLEANS_UP_TOO_LONG, ["loop ended"], 128 + signal.SIGTERM, id="cleans up too long"),
        pytest.param(LOOP_HANDLER, ["False", "loop ended", "True"], 0, id="handler of the loop"),
        pytest.param(PLAIN_HANDLER, ["False", "loop ended", "True"], 0, id="handler of Python"),
    ],
)
def test_program_ends_after_sigterm(text: str, said: list[str], code: int) -> None:
    with program(f"{text}\nasyncio.run(main())") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)

    assert (out.decode().splitlines(), err) == (said, b"")
    assert process.returncode == code
