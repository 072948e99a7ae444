"""Other processes that open the URL of the test and run errands on it, until they are closed or killed."""

import json
import os
import subprocess
import sys
from asyncio import to_thread
from contextlib import suppress
from typing import Any, Final

from brrr_core.errors import RuleBrokenError

__all__ = ["Agent", "as_bytes", "as_text"]

COMMAND: Final = (sys.executable, "-m", "brrr_core.contract.agent")


def as_text(body: bytes) -> str:
    """Bytes as JSON carries them: one character a byte."""
    return body.decode("latin-1")


def as_bytes(text: str) -> bytes:
    """What `as_text` was given."""
    return text.encode("latin-1")


class Agent:
    """One process of `brrr_core.contract.agent`, with the URL open.

    The URL travels through the process's input: it may hold a password, and everybody sees a command line.

    Args:
        url: What it opens.
        preload: Modules that it imports before.
        lease: The option `lease`, in seconds; None leaves it alone.
    """

    def __init__(self, url: str, preload: tuple[str, ...], lease: float | None) -> None:
        self._opening = {"url": url, "preload": preload, "lease": lease}
        self._process: subprocess.Popen[str] | None = None

    async def start(self) -> None:
        """Start the process, and wait until it has opened the backend."""
        # It sees what this process sees, also where that was put on the path by hand.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = await to_thread(
            subprocess.Popen,
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
            encoding="utf-8",
            bufsize=1,
        )
        self._send(self._opening)
        await self.answer()

    async def do(self, errand: str, **arguments: object) -> Any:
        """Run an errand, a function of `brrr_core.contract.agent`, and give its result."""
        self.begin(errand, **arguments)
        return await self.answer()

    def begin(self, errand: str, **arguments: object) -> None:
        """Have an errand run; `answer` gives what it says, in order."""
        self._send({"errand": errand, "arguments": arguments})

    async def answer(self) -> Any:
        """The next thing that the process says.

        Raises:
            RuleBrokenError: The errand raised, or the process has ended.
        """
        line = await to_thread(self._pipes.stdout.readline) if self._pipes.stdout else ""
        if not line:
            raise RuleBrokenError(
                "a process that had the backend open ended by itself",
                remedy="Look at what it wrote to the standard error: a backend may neither end nor crash its process.",
            )
        said = json.loads(line)
        if "error" in said:
            raise RuleBrokenError(
                f"in another process: {said['error']}",
                remedy="Do there as in the first process: what a backend keeps must not depend on who opened it.",
            )
        return said["result"]

    async def kill(self) -> list[Any]:
        """Kill it as `kill -9` does: it can clean nothing up. Gives what it had said and nobody has read."""
        self._pipes.kill()
        await to_thread(self._pipes.wait)
        rest = await to_thread(self._pipes.stdout.read) if self._pipes.stdout else ""
        said = [json.loads(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        return [each["result"] for each in said if "result" in each]

    async def close(self) -> None:
        """Kill it if it still runs, and close the pipes to it."""
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
            raise RuleBrokenError("the other process is not running", remedy="Call `start` before its errands.")
        return self._process

    def _send(self, what: object) -> None:
        stdin = self._pipes.stdin
        if stdin is not None:
            stdin.write(json.dumps(what) + "\n")
            stdin.flush()
