"""The tasks of the demo, written as a user of brrr writes tasks: plain functions that call each other."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta

import brrr_core as brrr

__all__ = ["HANDLERS", "MAX_INDEX"]

MAX_INDEX: Final = 1_000
"""The largest index of a sequence. It costs about 2,000 messages; by default one schedule may cause 1,000,000."""

Index: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_INDEX, description=f"a whole number from 0 to {MAX_INDEX}")]
Operation: TypeAlias = Annotated[Literal["fib", "lucas"], Meta(description="fib or lucas")]
Number: TypeAlias = Annotated[int, Meta(description="a whole number")]
Name: TypeAlias = Annotated[str, Meta(description="a text")]


async def say(text: str) -> None:
    """Print a line in a thread, so that a slow reader does not block the event loop."""
    await asyncio.to_thread(print, text, flush=True)


@brrr.handler_no_arg
async def hello(greetee: Name) -> str:
    """Print and return a greeting."""
    greeting = f"Hello, {greetee}!"
    await say(greeting)
    return greeting


@brrr.handler(replay=True)
async def fib(app: brrr.ActiveWorker, n: Index) -> int:
    """Return the n-th Fibonacci number. Results are stored, so each index is computed once."""
    if n < 2:
        return n
    return sum(await app.gather(app.call(fib)(n - 2), app.call(fib)(n - 1)))


@brrr.handler(replay=True)
async def lucas(app: brrr.ActiveWorker, n: Index) -> int:
    """Return the n-th Lucas number."""
    if n < 2:
        return 2 - n
    return sum(await app.gather(app.call(lucas)(n - 2), app.call(lucas)(n - 1)))


@brrr.handler(replay=True)
async def calc(app: brrr.ActiveWorker, op: Operation, n: Index) -> int:
    """Return the n-th number of the sequence that `op` names."""
    sequence = lucas if op == "lucas" else fib
    return await app.call(sequence)(n)


@brrr.handler
async def fib_and_print(app: brrr.ActiveWorker, n: Index) -> int:
    """Print and return the n-th Fibonacci number.

    Code before an `await` runs again when the handler runs again. Code after the last `await` runs once, unless the
    worker dies just then.
    """
    number = await app.call(fib)(n)
    await say(f"fib({n}) = {number}")
    return number


@brrr.handler
async def calc_and_print(app: brrr.ActiveWorker, op: Operation, n: Index) -> int:
    """Print and return the n-th number of the sequence that `op` names."""
    number = await app.call(calc)(op, n)
    await say(f"{op}({n}) = {number}")
    return number


refused: Final[set[int]] = set()
"""The orders that this process has failed to charge."""


@brrr.handler_no_arg(max_attempts=1)
async def charge(number: Number) -> str:
    """Fail on purpose, so that the board has a dead letter to show. After a redrive it succeeds."""
    if number not in refused:
        refused.add(number)
        raise TimeoutError("the bank does not answer")
    return f"charged order {number}"


@brrr.handler_no_arg
async def reserve(number: Number) -> str:
    """Return that the goods of an order are reserved."""
    return f"reserved the goods of order {number}"


@brrr.handler(replay=True)
async def order(app: brrr.ActiveWorker, number: Number) -> list[str]:
    """Reserve the goods of an order, and charge it."""
    return list(await app.gather(app.call(reserve)(number), app.call(charge)(number)))


HANDLERS: Final[Mapping[str, brrr.TypedTask[Any]]] = {
    "hello": hello,
    "fib": fib,
    "lucas": lucas,
    "calc": calc,
    "fib_and_print": fib_and_print,
    "calc_and_print": calc_and_print,
    "order": order,
    "reserve": reserve,
    "charge": charge,
}
"""The handlers by their task names, which the URLs of the front use too."""
