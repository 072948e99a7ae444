"""Processes that kill themselves in the middle of operations: a program that forks one for each point.

Forking is fast, because the modules are already imported. When the program forks, it has nothing open.
"""

import asyncio
import json
import os
import signal
import sys
from asyncio import create_task, gather, sleep
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from brrr_contract_kit.testbed.checks import described
from brrr_contract_kit.testbed.context import MAX_TURNS
from brrr_contract_kit.testbed.interruptions import EFFECTS, NEW, begun, swaps_of, values_of
from brrr_contract_kit.testbed.processes import answer_line, as_bytes
from brrr_core import open_backend
from brrr_core.backend import Backend, Key

__all__ = ["serve_forks"]

Operation = Callable[[], Awaitable[object]]

MAX_LIFE_SECONDS: Final = 60
"""Seconds after which the system ends a process that hangs."""


def serve_forks(url: str, options: dict[str, object]) -> None:
    """For each request, fork a process that runs its operations, until the input ends."""
    open_backend(url, **options)  # imports the plugin
    answer_line({"result": None})
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            _live(url, options, json.loads(line))
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) == -signal.SIGKILL:
            answer_line({"result": None})
        elif status:
            answer_line({"error": f"a forked process ended with the status {status}"})


def _live(url: str, options: dict[str, object], request: dict[str, Any]) -> None:
    """Run the operations of a request, and never return."""
    status = 1
    try:
        signal.alarm(MAX_LIFE_SECONDS)
        asyncio.run(_interrupt(url, options, request["command"], **request["arguments"]))
        status = 0
    except BaseException as error:  # noqa: BLE001 - the starting process reports it
        answer_line({"error": described(error)})
        status = 0
    finally:
        os._exit(status)  # skips the clean-up of the program


async def _interrupt(
    url: str, options: dict[str, object], command: str, *, turns: int | None, **arguments: Any
) -> None:
    """Begin operations together, and kill this process after `turns` turns. Without `turns`, report their number."""
    backend = open_backend(url, **options)
    await backend.open()
    operations = await PREPARE[command](backend, **arguments)
    task = create_task(_run(operations))
    passed = 0
    while not task.done() and passed < (MAX_TURNS if turns is None else turns):
        await sleep(0)
        passed += 1
    if turns is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    await task
    await backend.close()
    answer_line({"result": passed})


async def _run(operations: list[Operation]) -> None:
    await gather(*(each() for each in operations))


async def _queue(backend: Backend, operations: list[tuple[str, str, list[str]]], wait: float) -> list[Operation]:
    """Prepare operations of the queue: the name of each, its topic and its bodies."""
    return [
        await begun(backend.queue, topic, EFFECTS[name], [as_bytes(body) for body in bodies], wait=wait)
        for name, topic, bodies in operations
    ]


async def _store(
    backend: Backend, *, replaced: list[str], created: list[str], swapped: list[str], deleted: list[str], large: int
) -> list[Operation]:
    """Prepare a write that replaces and creates records, and swaps of others."""
    old, new, changed, gone = (
        [Key("value", each) for each in hashes] for hashes in (replaced, created, swapped, deleted)
    )
    items = [*values_of(old, large, NEW), *values_of(new, large, NEW)]
    return [partial(backend.store.write, items), partial(backend.store.swap, swaps_of(changed, gone, large))]


async def _cache(backend: Backend, names: list[str], amount: int) -> list[Operation]:
    """Prepare an increment of counters."""
    return [partial(backend.cache.increment, dict.fromkeys(names, amount))]


PREPARE: Final[dict[str, Callable[..., Awaitable[list[Operation]]]]] = {
    "queue": _queue,
    "store": _store,
    "cache": _cache,
}
