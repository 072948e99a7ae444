"""The program of the kit's other processes: it opens a URL and runs commands on the backend.

`brrr_contract_kit.testbed.processes` starts it. Each command is a line of JSON, and so is each answer.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, Final

from brrr_contract_kit.testbed.checks import described
from brrr_contract_kit.testbed.histories import perform, to_json
from brrr_contract_kit.testbed.killing import serve_forks
from brrr_contract_kit.testbed.operations import put_and_release
from brrr_contract_kit.testbed.processes import answer_line, as_bytes, as_text
from brrr_contract_kit.testbed.stepped import steps_of
from brrr_core import open_backend
from brrr_core.backend import Backend, Count, Delivery, Duration, Key, Message, Step, Swap

__all__ = ["main"]


def main() -> None:
    """Open the backend named in the first line, and run the commands in the other lines until the input ends."""
    opening = json.loads(sys.stdin.readline())
    for module in opening["preload"]:
        import_module(module)
    lease: dict[str, object] = {} if opening["lease"] is None else {"lease": Duration(opening["lease"])}
    if opening["forks"]:
        serve_forks(opening["url"], lease)
    else:
        asyncio.run(_serve(opening["url"], lease, opened=opening["opened"]))


async def _serve(url: str, options: dict[str, object], *, opened: bool) -> None:
    try:
        backend = open_backend(url, **options)
        if opened:
            await backend.open()
    except Exception as error:  # noqa: BLE001 - the starting process reports it
        answer_line({"error": described(error)})
        return
    try:
        answer_line({"result": None})
        while line := await asyncio.to_thread(sys.stdin.readline):
            await _run(backend, json.loads(line))
    finally:
        await backend.close()


async def _run(backend: Backend, request: dict[str, Any]) -> None:
    try:
        result = await COMMANDS[request["command"]](backend, **request["arguments"])
    except Exception as error:  # noqa: BLE001 - the starting process reports it
        answer_line({"error": described(error)})
    else:
        answer_line({"result": result})


async def _until(moment: float) -> None:
    """Wait until a time of the wall clock, so that all processes begin at the same moment."""
    await asyncio.sleep(max(0.0, moment - time.time()))


async def _put(backend: Backend, topic: str, bodies: list[str], delay: float = 0) -> None:
    await backend.queue.put(topic, [as_bytes(body) for body in bodies], delay=delay)


async def _set_up(backend: Backend, at: float) -> list[str]:
    await _until(at)
    return await backend.setup()


async def _time(backend: Backend) -> list[float]:
    """Return the time by the functions of Python, for the tests of the kit."""
    del backend
    return [time.time(), time.time_ns() / 1e9, time.clock_gettime(time.CLOCK_REALTIME), datetime.now(UTC).timestamp()]


async def _put_later(backend: Backend, topic: str, delay: float, wait: float) -> None:
    await put_and_release(backend.queue, topic, delay, wait=wait)


async def _receive(backend: Backend, topic: str, limit: int, wait: float) -> list[tuple[str, int]]:
    found = await backend.queue.receive(topic, limit=limit, wait=wait)
    return [(as_text(each.body), each.attempt) for each in found]


async def _consume(backend: Backend, topic: str, idle: float, slowly: bool) -> list[str]:
    """Receive and acknowledge until no message arrives for `idle` seconds. If `slowly`, one by one, reporting each."""
    acked: list[str] = []
    while found := await backend.queue.receive(topic, limit=1 if slowly else 10, wait=idle):
        await backend.queue.ack(found)
        acked += _texts(found)
        if slowly:
            answer_line({"result": _texts(found)})
    return acked


def _texts(deliveries: list[Delivery]) -> list[str]:
    return [as_text(each.body) for each in deliveries]


async def _create(backend: Backend, hashes: list[str], value: str, at: float) -> list[bool]:
    """Try to be the first to create each key."""
    await _until(at)
    won: list[bool] = []
    for each in hashes:
        won += await backend.store.swap([Swap(Key("value", each), None, as_bytes(value))])
    return won


async def _count(backend: Backend, call_hash: str, times: int, at: float) -> None:
    """Add 1 to the number under a key `times` times, by read and swap."""
    await _until(at)
    key = Key("value", call_hash)
    for _ in range(times):
        while True:
            (found,) = await backend.store.read([key])
            if (await backend.store.swap([Swap(key, found, b"%d" % (int(found or b"0") + 1))]))[0]:
                break


async def _history(
    backend: Backend, *, call_hash: str, client: str, count: int, seed: str, at: float
) -> list[dict[str, object]]:
    await _until(at)
    return to_json(await perform(backend.store, Key("value", call_hash), client, count, seed))


async def _write(backend: Backend, call_hash: str, value: str) -> None:
    await backend.store.write([(Key("value", call_hash), as_bytes(value))])


async def _increment(backend: Backend, name: str, times: int, at: float) -> list[int]:
    await _until(at)
    return [(await backend.cache.increment({name: 1}))[name] for _ in range(times)]


async def _step(
    backend: Backend, *, call_hash: str, topic: str, counter: str, commits: int, size: int, slowly: bool, at: float
) -> int:
    """Increase the number under a key by steps with every effect, `size` at a time. If `slowly`, report each commit.

    Returns the number after the last commit.
    """
    await _until(at)
    stepper, key, number, done = steps_of(backend), Key("value", call_hash), 0, 0
    while done < commits:
        (found,) = await backend.store.read([key])
        number = int(found or b"0")
        steps = [
            Step(
                [(key, b"%d" % each if each else None)],
                [Count(counter, 1, 1_000_000)],
                [(Key("call", f"{call_hash}/{each + 1}"), b"x")],
                [Message(topic, b"%d" % (each + 1))],
                [(key, b"%d" % (each + 1))],
            )
            for each in range(number, number + size)
        ]
        if await stepper.commit(steps) == [[]] * size:
            done, number = done + 1, number + size
            if slowly:
                answer_line({"result": number})
    return number


COMMANDS: Final[dict[str, Callable[..., Awaitable[Any]]]] = {
    "put": _put,
    "put_later": _put_later,
    "set_up": _set_up,
    "time": _time,
    "receive": _receive,
    "consume": _consume,
    "create": _create,
    "count": _count,
    "history": _history,
    "write": _write,
    "increment": _increment,
    "step": _step,
}


if __name__ == "__main__":
    main()
