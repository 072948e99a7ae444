"""A worker inside a user's program, and the ways in which such a program can end.

`ended` starts this module as a program, ends it in one of `ENDINGS`, and returns its exit code and errors. The program
runs `HELD` calls that never return, so each ending interrupts running handlers, leases and a receive.
"""

import asyncio
import signal
import subprocess
import sys
from typing import Final, NamedTuple, NoReturn

import brrr_core as brrr

__all__ = ["ENDINGS", "GRACE", "HELD", "TOPIC", "Ended", "ended"]

TOPIC: Final = "endings"
HELD: Final = 4
"""Calls that the program is running when it ends."""
GRACE: Final = 1.0
"""Grace of the policy, in seconds."""
BOUND: Final = 5.0
"""Seconds beyond the grace within which the program must have ended."""

EXIT: Final = 3
"""Exit code of a program that is ended by one of its own tasks or callbacks."""


class Ending(NamedTuple):
    """A way in which the program ends.

    Attributes:
        code: Exit code of the program; negative for a signal.
        signals: Signals that cause the ending. If there are none, the program ends itself.
        by_call: Whether one more call ends the program. Its message must not be lost either.
        leased: Messages that the program cannot release. They become ready again when their leases expire.
    """

    code: int
    signals: tuple[signal.Signals, ...] = ()
    by_call: bool = False
    leased: int = 0


ENDINGS: Final = {
    "sigterm": Ending(0, (signal.SIGTERM,)),
    "one_interrupt": Ending(-signal.SIGINT, (signal.SIGINT,)),
    "two_interrupts": Ending(-signal.SIGINT, (signal.SIGINT, signal.SIGINT)),
    "two_interrupts_at_once": Ending(-signal.SIGINT, by_call=True, leased=1),
    "exit_on_sigterm": Ending(0, (signal.SIGTERM,)),
    "interrupt_in_a_gathered_helper": Ending(-signal.SIGINT, by_call=True),
    "interrupt_in_a_task": Ending(-signal.SIGINT, by_call=True),
    "exit_in_a_task": Ending(EXIT, by_call=True),
    "exit_in_a_callback": Ending(EXIT, by_call=True),
    "loop_stop": Ending(1),
    "cancel_all_tasks": Ending(1),
}


class Ended(NamedTuple):
    """The exit code and the standard error of a program."""

    code: int
    errors: str


def ended(url: str, ending: str) -> Ended:
    """Run the program on `url` and end it. Fail if it does not end within the grace plus `BOUND`.

    A call that fails is dead-lettered immediately, so that a test sees it.
    """
    program = subprocess.Popen(
        [sys.executable, "-m", "brrr_testkit.workloads.endings", url, ending],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "works\n", program.communicate()[1]
        for place, number in enumerate(ENDINGS[ending].signals):
            if place:  # send the second signal only after the program has noticed the first
                assert program.stdout.readline() == "stopping\n", program.communicate()[1]
            program.send_signal(number)
        _, errors = program.communicate(timeout=GRACE + BOUND)
        return Ended(program.returncode, errors)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"the program did not end within {GRACE + BOUND:g} s after {ending}") from None
    finally:
        program.kill()
        program.communicate()


def main(url: str, ending: str) -> None:
    """Run the program."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background processes ignore SIGINT
    if ending == "exit_on_sigterm":
        signal.signal(signal.SIGTERM, _exit)
    asyncio.run(_work(url, ending))


async def _work(url: str, ending: str) -> None:
    async with brrr.serve(url, policy=brrr.Policy(grace=GRACE, max_attempts=1)) as connection:
        running: set[int] = set()

        @brrr.handler
        async def hold(_: brrr.ActiveWorker, number: int) -> None:
            running.add(number)
            await asyncio.Event().wait()

        @brrr.handler
        async def end(active: brrr.ActiveWorker) -> None:
            kind = SystemExit(EXIT) if ending.startswith("exit") else KeyboardInterrupt()
            if ending == "two_interrupts_at_once":
                for _ in range(2):
                    signal.raise_signal(signal.SIGINT)
                await asyncio.Event().wait()
            elif ending.endswith("callback"):
                asyncio.get_running_loop().call_soon(sys.exit, EXIT)
                await asyncio.Event().wait()
            elif ending.endswith("task"):
                task = asyncio.create_task(_raising(kind))
                await asyncio.wait({task})
            else:
                await active.gather(_raising(kind), active.call("hold")(-1))

        async def conduct(main: "asyncio.Task[None] | None") -> None:
            assert main is not None
            while len(running) < HELD:  # noqa: ASYNC110 - no event signals this
                await asyncio.sleep(0.002)
            _say("works")
            if ending == "loop_stop":
                asyncio.get_running_loop().stop()
            elif ending == "cancel_all_tasks":
                for task in asyncio.all_tasks():
                    task.cancel()
            elif ENDINGS[ending].by_call:
                await app.schedule("end", topic=TOPIC)()
            while not main.cancelling():  # noqa: ASYNC110 - no event signals this
                await asyncio.sleep(0.002)
            _say("stopping")

        app = brrr.AppWorker(handlers={"hold": hold, "end": end}, codec="json", connection=connection)
        for number in range(HELD):
            await app.schedule("hold", topic=TOPIC)(number)
        conductor = asyncio.create_task(conduct(asyncio.current_task()))
        try:
            await connection.loop(TOPIC, app.handle)
        finally:
            conductor.cancel()


async def _raising(error: BaseException) -> NoReturn:
    await asyncio.sleep(0)
    raise error


def _exit(*_: object) -> NoReturn:
    sys.exit(0)


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
