"""The client of every engine: it reads requests from standard input, runs them, and writes the times.

It uses the standard library only, because it runs in the environments of the peers. A program of an engine passes two
functions to `drive`.
"""

import asyncio
import json
import os
import random
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final, Protocol

__all__ = ["TOPIC", "Answer", "Call", "Independent", "drive"]

TOPIC: Final = "bench"
"""The topic or queue of every engine."""

PAUSE: Final = (0.02, 0.06)
"""The range of seconds between two calls of the latency case. It varies, so that polling has no fixed phase."""

Answer = dict[str, Any]
"""`seconds` of the whole request and of each call as `samples`, and the `value`; or an `error`."""

Independent = Callable[[int, str], Awaitable[list[Any]]]
"""Starts leaves `0 … count - 1` as roots of their own, waits for all, and returns their values."""


class Call(Protocol):
    """Starts a root and waits for its value."""

    def __call__(self, task: str, *arguments: Any) -> Awaitable[Any]:
        """Return the value of `task(*arguments)`."""
        ...


def drive(call: Call, independent: Independent, opened: AbstractAsyncContextManager[Any] | None = None) -> None:
    """Answer requests until standard input ends, with `opened` entered first."""
    asyncio.run(_drive(call, independent, opened or nullcontext()))


async def _drive(call: Call, independent: Independent, opened: AbstractAsyncContextManager[Any]) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library that prints must not disturb the answers
    async with opened:
        while line := await asyncio.to_thread(sys.stdin.readline):
            try:
                answer = await _answer(json.loads(line), call, independent)
            except Exception:  # noqa: BLE001 - the harness reports any failure of an engine
                answer = {"error": traceback.format_exc()}
            print(json.dumps(answer), file=answers, flush=True)


async def _answer(request: dict[str, Any], call: Call, independent: Independent) -> Answer:
    task, arguments, run = request["task"], request["arguments"], request["run"]
    samples: list[float] = []
    started = time.perf_counter()
    if request["kind"] == "independent":
        values = await independent(arguments[0], run)
    else:
        pausing = request["kind"] == "latency"
        values = []
        for index in range(arguments[0] if pausing else request["repeat"]):
            if pausing:
                await asyncio.sleep(random.uniform(*PAUSE))
            before = time.perf_counter()
            values.append(await (call(task, index, run) if pausing else call(task, *arguments, f"{run}-{index}")))
            samples.append(time.perf_counter() - before)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "samples": samples, "value": sum(values)}
