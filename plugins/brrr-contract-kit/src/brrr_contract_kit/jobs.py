"""Run rules in several processes concurrently, because rules mostly wait for leases and delays.

Each process runs one rule at a time. So a leak is found after the rule that caused it, as in a run with one process.
`brrr_contract_kit.job_process` is the program of the processes.
"""

import json
import signal
import sys
from asyncio import CancelledError, create_subprocess_exec, create_task, gather, shield, subprocess, timeout, wait
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from brrr_contract_kit.execution import MAX_TRIES, limit_of
from brrr_contract_kit.registry import Rule
from brrr_contract_kit.report import Outcome, Status
from brrr_contract_kit.rules import find
from brrr_contract_kit.target import Target
from brrr_contract_kit.testbed.processes import environment
from brrr_core.errors import RuleBrokenError

__all__ = ["run_in_processes"]

ARGUMENTS: Final = (sys.executable, "-m", "brrr_contract_kit.job_process")

KILL_MARGIN: Final = 30
"""Seconds beyond the limit of a rule until its process is killed, because the rule blocks its event loop."""

CLOSE_TIMEOUT: Final = 10
"""Seconds that an interrupted process may take to clean up."""

MAX_ANSWER_BYTES: Final = 1 << 24
"""The most bytes of one answer."""


async def run_in_processes(
    rules: Sequence[Rule], target: Target, seed: str, *, jobs: int, ended: Callable[[Outcome], object]
) -> None:
    """Run rules in up to `jobs` processes, and call `ended` with each outcome.

    Rules that start further processes come first, and only half of the processes, rounded up, run them. Cancelling it
    interrupts the running rules, which clean up.

    Raises:
        ContractError: The target has no URL.
    """
    opening = {
        "url": target.address(),
        "unreachable_url": target.unreachable_url,
        "lease": target.lease,
        "grace": target.grace,
        "preload": target.preload,
        "server": target.server,
    }
    starting = deque(rule for rule in rules if rule.processes)
    others = deque(rule for rule in rules if not rule.processes)

    async def work(*queues: deque[Rule]) -> None:
        process = _Process({"seed": seed, "target": opening})
        try:
            for queue in queues:
                while queue:
                    rule = queue.popleft()
                    ended(await process.run(rule, limit_of(rule, target) * MAX_TRIES + KILL_MARGIN))
        finally:
            closing = create_task(process.close())
            while not closing.done():
                with suppress(CancelledError):  # it may be interrupted while it closes its process
                    await wait({closing})

    workers = [create_task(work(*([others] if number % 2 else [starting, others]))) for number in range(jobs)]
    try:
        await gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await gather(*workers, return_exceptions=True)


class _Process:
    """A process that runs rules. It is started when a rule needs it, and again after it has ended.

    It has its own session, so Ctrl-C in a terminal reaches only its parent, which interrupts it once.
    """

    def __init__(self, opening: dict[str, Any]) -> None:
        self._opening = opening
        self._process: subprocess.Process | None = None
        self._running = False

    async def run(self, rule: Rule, limit: float) -> Outcome:
        """Run a rule; kill the process if it takes more than `limit` seconds."""
        try:
            async with timeout(limit):
                answer = await self._ask(rule)
        except TimeoutError:
            await self.close(kill=True)
            what = f"the rule blocked its process for more than {limit:g} s"
            remedy = "Do not block the event loop: call blocking functions in a thread."
        else:
            if answer:
                return _outcome(rule, json.loads(answer))
            what = f"the process of the rule ended with {await self.close()}"
            remedy = "Read its standard error. A backend must not end its process."
        reason = f"{what} (seed {self._opening['seed']})"
        return Outcome(rule, Status.FAILED, reason, error=RuleBrokenError(what, remedy=remedy))

    async def _ask(self, rule: Rule) -> bytes:
        if self._process is None:
            self._process = await self._start()
            self._write(json.dumps(self._opening))
        self._write(rule.id)
        stdout = self._process.stdout
        self._running = True
        answer = b"" if stdout is None else await stdout.readline()
        self._running = False
        return answer

    async def _start(self) -> subprocess.Process:
        starting = create_task(
            create_subprocess_exec(
                *ARGUMENTS,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                limit=MAX_ANSWER_BYTES,
                env=environment(),
                start_new_session=True,
            )
        )
        try:
            return await shield(starting)
        except CancelledError:
            self._process = await starting  # so that `close` ends it
            raise

    def _write(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(f"{line}\n".encode())

    async def close(self, *, kill: bool = False) -> int | None:
        """End the process, and return its exit code. A running rule is interrupted and cleans up, or is killed."""
        process, self._process = self._process, None
        if process is None:
            return None
        with suppress(ProcessLookupError):
            if kill:
                process.kill()
            elif self._running:
                process.send_signal(signal.SIGINT)
        self._running = False
        if process.stdin is not None:
            process.stdin.close()  # it ends when it has read everything
        try:
            async with timeout(CLOSE_TIMEOUT):
                await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()
        return process.returncode


def _outcome(rule: Rule, answer: dict[str, Any]) -> Outcome:
    error = None
    if answer["error"] is not None:
        error = RuleBrokenError(answer["error"]["what"], remedy=answer["error"]["remedy"])
        error.add_note(answer["error"]["traceback"])
    forbidding = answer["forbidden_by"]
    return Outcome(
        rule,
        Status(answer["status"]),
        answer["reason"],
        answer["seconds"],
        error,
        None if forbidding is None else find(forbidding),
    )
