"""SIGINT inside `serve`: the handler of a command stays, and that of a program is restored."""

import asyncio
import signal

from brrr_core.engine import termination
from brrr_core.engine.termination import add_handler, interruptible, remove_handler


async def test_handler_of_a_command_stays_inside_serve() -> None:
    """Otherwise a forked child of a handler would not get the default handlers."""
    before, heard = signal.getsignal(signal.SIGINT), asyncio.Event()
    assert add_handler(signal.SIGINT, heard.set)
    try:
        with interruptible():
            assert signal.SIGINT in termination._ours()
            signal.raise_signal(signal.SIGINT)
            await asyncio.wait_for(heard.wait(), 5)
    finally:
        remove_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)


async def test_handler_of_a_program_is_called_and_restored() -> None:
    before, seen = signal.getsignal(signal.SIGINT), list[int]()

    def note(number: int, _: object) -> None:
        seen.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        with interruptible(), interruptible():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is note
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]


async def test_handler_that_the_program_installs_meanwhile_stays() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        with interruptible():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
