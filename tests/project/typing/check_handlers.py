# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Types of handlers and calls: mypy and pyright check this file, and nothing runs it.

A `type: ignore` marks a line that must be an error: both checkers report an unnecessary one.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Optional, assert_type

import brrr_core as brrr


@brrr.handler
async def fib(app: brrr.ActiveWorker, n: int, salt: str | None = None) -> int:
    return n


@brrr.handler_no_arg
async def hello(greetee: str, *, loud: bool = False) -> str:
    return f"Hello, {greetee}!"


@brrr.handler
def in_a_thread(app: brrr.ActiveWorker, n: int) -> list[int]:
    return [app.wait(app.call(fib)(n))]


@brrr.handler_no_arg
def plain(n: int) -> bytes:
    return bytes(n)


@brrr.handler
async def nothing(app: brrr.ActiveWorker) -> None: ...


@brrr.handler
async def calls(app: brrr.ActiveWorker) -> None:
    assert_type(await app.call(fib)(11), int)
    assert_type(await app.call(fib)(n=11, salt="s"), int)
    assert_type(await app.call(fib, topic="other")(11, None), int)
    assert_type(await app.call(hello)("John", loud=True), str)
    assert_type(await app.call(in_a_thread)(3), list[int])
    assert_type(await app.call(plain)(3), bytes)
    assert_type(await app.call(nothing)(), None)
    assert_type(app.call(fib)(1), brrr.PendingCall[int])
    assert_type(await app().call(fib)(1), int)

    app.call(fib)("eleven")  # type: ignore[arg-type]
    app.call(fib)()  # type: ignore[call-arg]
    app.call(fib)(1, "salt", 3)  # type: ignore[call-arg]
    app.call(fib)(m=1)  # type: ignore[call-arg]
    app.call(hello)(greetee=1)  # type: ignore[arg-type]
    app.call(hello)("John", True)  # type: ignore[call-arg] # keyword only
    app.call(in_a_thread)([])  # type: ignore[arg-type]
    app.call(plain)(b"")  # type: ignore[arg-type]
    app.call(nothing)(1)  # type: ignore[call-arg]
    app.call(len)([])  # type: ignore[call-overload] # a function that is not a handler
    app.call(fib, returns=int)(1)  # type: ignore[call-overload] # the handler says it itself


@brrr.handler
async def calls_by_name(app: brrr.ActiveWorker) -> None:
    assert_type(await app.call("fib", returns=int)(11), int)
    assert_type(await app.call("fib", returns=Optional[int])(11), Any)  # noqa: UP045 - a union is not a type to checkers
    assert_type(await app.call("fib", topic="other", returns=list[str])("anything", goes=True), list[str])
    assert_type(await app.call("fib")(11), Any)


@brrr.handler
async def gathers(app: brrr.ActiveWorker) -> None:
    i, s, b, n, li = (
        app.call(fib)(1),
        app.call(hello)("J"),
        app.call(plain)(1),
        app.call(nothing)(),
        app.call(in_a_thread)(1),
    )
    assert_type(await app.gather(i, s), tuple[int, str])
    assert_type(await app.gather(i, s, b), tuple[int, str, bytes])
    assert_type(await app.gather(i, s, b, n), tuple[int, str, bytes, None])
    assert_type(await app.gather(i, s, b, n, li), tuple[int, str, bytes, None, list[int]])
    assert_type(await app.gather(*(app.call(fib)(k) for k in range(9))), tuple[int, ...])
    assert_type(await app.gather(helper(app), i), tuple[float, int])
    assert_type(sum(await app.gather(*(app.call(fib)(k) for k in range(9)))), int)
    await app.gather(1)  # type: ignore[call-overload]


async def helper(app: brrr.ActiveWorker) -> float:
    return float(await app.call(fib)(1))


@brrr.handler
def waits(app: brrr.ActiveWorker) -> None:
    assert_type(app.wait(app.call(fib)(1)), int)
    assert_type(app.wait(app.gather(app.call(fib)(1), app.call(hello)("J"))), tuple[int, str])
    app.wait(1)  # type: ignore[arg-type]


@brrr.only
def inside(n: int) -> str:
    return str(n)


assert_type(inside(1), str)
inside("1")  # type: ignore[arg-type]


@brrr.handler(max_attempts=3, on_exhausted="fail", retry_on=(OSError,))
async def with_settings(app: brrr.ActiveWorker, number: int) -> str:
    outcomes = await app.gather(app.call(plain)(number), app.call(plain)(2), return_exceptions=True)
    failed = [each for each in outcomes if isinstance(each, brrr.CallFailedError)]
    return failed[0].message


@dataclass
class Item:
    name: str
    size: brrr.Added[int] = 0
    tags: brrr.Added[list[str]] = field(default_factory=list[str])


@brrr.handler_no_arg
async def with_added(item: Item, b: brrr.Added[int | None] = None, *, c: brrr.Added[str] = "") -> int:
    assert_type(b, int | None)
    assert_type(item.size, int)
    return item.size


async def callers_of_added(app: brrr.ActiveWorker) -> None:
    assert_type(await app.call(with_added)(Item("a", 1), 2, c="x"), int)
    app.call(with_added)(Item("a"), "2")  # type: ignore[arg-type]
    Item("a", "1")  # type: ignore[arg-type]


@brrr.handler(version=3, oldest_version=2, old_topics={1: "shop-v1"})
async def with_version(app: brrr.ActiveWorker, number: int) -> int:
    assert_type(app.version, int)
    return number if app.version >= 2 else 0


@brrr.handler(version="2")  # type: ignore[call-overload, untyped-decorator]
async def with_wrong_version(app: brrr.ActiveWorker) -> None: ...


@brrr.handler_no_arg(fail_on=(KeyError,))
def plain_with_settings(number: int) -> str:
    return str(number)


@brrr.handler(on_exhausted="explode")  # type: ignore[call-overload, untyped-decorator]
async def misspelt(app: brrr.ActiveWorker) -> None: ...


async def callers_of_settings(app: brrr.ActiveWorker) -> None:
    assert_type(await app.call(with_settings)(1), str)
    assert_type(await app.call(plain_with_settings)(1), str)
    app.call(with_settings)("1")  # type: ignore[arg-type]


class Clients:
    number: int


@asynccontextmanager
async def lifespan(app: brrr.AppWorker) -> AsyncGenerator[Clients]:
    yield Clients()


@brrr.handler
async def uses_state(app: brrr.ActiveWorker[Clients], name: str) -> int:
    assert_type(app.state, Clients)
    assert_type(await app.call(uses_state)("a"), int)
    assert_type(await helper(app), float)  # which takes a worker with any state
    return app.state.number


@brrr.handler
async def sends(app: brrr.ActiveWorker) -> None:
    assert_type(await app.send(fib)(11, salt="s"), None)
    await app.send("elsewhere", topic="other", delay="1h")(1, x=2)
    app.send(fib)("eleven")  # type: ignore[arg-type, unused-coroutine]


@brrr.handler
async def uses_any_state(app: brrr.ActiveWorker) -> None:
    assert_type(app.state, Any)


brrr.LocalBrrr(handlers={"uses_state": uses_state}, lifespan=lifespan)
brrr.LocalBrrr(handlers={"uses_state": uses_state}, lifespan=helper)  # type: ignore[arg-type]
