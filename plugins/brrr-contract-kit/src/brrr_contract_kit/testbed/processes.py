"""Other processes, which open the URL under test and run commands on it until they are killed."""

import json
import os
import subprocess
import sys
from asyncio import to_thread
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from brrr_core.errors import RuleBrokenError

__all__ = ["HEAD_START", "Agent", "answer_line", "as_bytes", "as_text", "environment"]

ARGUMENTS: Final = (sys.executable, "-m", "brrr_contract_kit.testbed.agent")
HEAD_START: Final = 0.3
"""Seconds after which all processes of a race begin together."""

SHIFTED: Final = Path(__file__).with_name("shifted.py")
RUN_FILE: Final = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0])"
"""A program that runs a file without adding its folder to the import path."""


def as_text(body: bytes) -> str:
    """Return bytes as a text for JSON, with one character for each byte."""
    return body.decode("latin-1")


def as_bytes(text: str) -> bytes:
    """Return the bytes of which `as_text` made the text."""
    return text.encode("latin-1")


def environment() -> dict[str, str]:
    """Return the environment for other processes, with the import path of this one, which tests may have changed."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


def answer_line(answer: object) -> None:
    """Write an answer of another process, on one line."""
    print(json.dumps(answer), flush=True)  # noqa: T201 - the starting process reads the standard output


class Agent:
    """One process that runs `brrr_contract_kit.testbed.agent`, with the URL open.

    The URL is sent through the standard input: it may contain a password, and all users can read command lines.

    Args:
        url: The URL that it opens.
        preload: Modules that it imports first.
        lease: The option `lease` in seconds; None keeps the default.
        opened: Whether it opens the backend. Otherwise it can only set it up.
        forks: Whether to fork a process for each command, which opens the backend and kills itself (`killing`).
        shift: Seconds by which its wall clock is ahead, for Python: `shifted` replaces its functions.
    """

    def __init__(
        self,
        url: str,
        preload: tuple[str, ...],
        lease: float | None,
        *,
        opened: bool = True,
        forks: bool = False,
        shift: int = 0,
    ) -> None:
        self._opening = {"url": url, "preload": preload, "lease": lease, "opened": opened, "forks": forks}
        self._shift = shift
        self._process: subprocess.Popen[str] | None = None

    async def start(self) -> None:
        """Start the process and wait until it has opened the backend."""
        shifted = (sys.executable, "-c", RUN_FILE, str(SHIFTED), str(self._shift))
        self._process = await to_thread(
            subprocess.Popen,
            shifted if self._shift else ARGUMENTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
            encoding="utf-8",
            bufsize=1,
        )
        self._send(self._opening)
        await self.answer()

    async def do(self, command: str, **arguments: object) -> Any:
        """Run a command, a function of `brrr_contract_kit.testbed.agent`, and return its result."""
        self.begin(command, **arguments)
        return await self.answer()

    def begin(self, command: str, **arguments: object) -> None:
        """Send a command; `answer` returns its answers in order."""
        self._send({"command": command, "arguments": arguments})

    async def answer(self) -> Any:
        """Return the next answer of the process.

        Raises:
            RuleBrokenError: The command raised an exception, or the process has ended.
        """
        line = await to_thread(self._pipes.stdout.readline) if self._pipes.stdout else ""
        if not line:
            raise RuleBrokenError(
                "a process that had the backend open ended unexpectedly",
                remedy="Read its standard error. A backend must neither end nor crash its process.",
            )
        reply = json.loads(line)
        if "error" in reply:
            raise RuleBrokenError(
                f"in another process: {reply['error']}",
                remedy="Let the backend work in every process: its data must not depend on the process that opened it.",
            )
        return reply["result"]

    async def kill(self) -> list[Any]:
        """Kill the process like `kill -9`, so that it cannot clean up, and return its unread answers."""
        self._pipes.kill()
        await to_thread(self._pipes.wait)
        rest = await to_thread(self._pipes.stdout.read) if self._pipes.stdout else ""
        reply = [json.loads(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        return [each["result"] for each in reply if "result" in each]

    async def end(self) -> None:
        """Let the process close its backend and end.

        Raises:
            RuleBrokenError: It ended with an error.
        """
        if self._pipes.stdin is not None:
            self._pipes.stdin.close()
        status = await to_thread(self._pipes.wait)
        if status != 0:
            raise RuleBrokenError(
                f"a process that closed its backend ended with the exit status {status}",
                remedy="Read its standard error. Closing a backend must not fail.",
            )

    async def close(self) -> None:
        """Kill the process if it still runs, and close its pipes."""
        if self._process is None:
            return
        await self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._process = None

    @property
    def _pipes(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuleBrokenError("the other process is not running", remedy="Call `start` before you send commands.")
        return self._process

    def _send(self, message: object) -> None:
        stdin = self._pipes.stdin
        if stdin is not None:
            stdin.write(json.dumps(message) + "\n")
            stdin.flush()
