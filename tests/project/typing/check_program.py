# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""A whole program, as users write one: read by mypy and pyright, never run.

Type checkers infer the types of module-level names, and must accept the program with the inferred types.
"""

import asyncio
from functools import partial

import brrr_core as brrr
from brrr_core.backend import Backend


@brrr.handler
async def fib(app: brrr.ActiveWorker, n: int, salt: str | None = None) -> int:
    if n < 2:
        return n
    return sum(await app.gather(app.call(fib)(n - 2, salt), app.call(fib)(n - 1, salt)))


@brrr.handler
def report(app: brrr.ActiveWorker, names: list[str], *, loud: bool = False) -> str:
    return ", ".join(app.wait(app.gather(*(app.call(hello)(name) for name in names))))


@brrr.handler_no_arg
async def hello(greetee: str) -> str:
    return f"Hello, {greetee}!"


@brrr.handler_no_arg
def pause() -> None: ...


async def add(left: int, right: int) -> int:
    return left + right


class Adder:
    def __init__(self, amount: int) -> None:
        self.amount = amount

    async def add(self, n: int) -> int:
        return n + self.amount

    def __call__(self, n: int) -> int:
        return n + self.amount


add_three = brrr.handler_no_arg(partial(add, 3))
method = brrr.handler_no_arg(Adder(1).add)
thing = brrr.handler_no_arg(Adder(2))

handlers = dict(fib=fib, hello=hello)
of_one_kind = dict(fib=fib, report=report)
alike = dict(fib=fib)
all_of_them = {"fib": fib, "hello": hello, "report": report, "pause": pause, "add": add_three, "m": method, "t": thing}


async def fake_hello(greetee: str) -> str:
    return greetee


def fake_fib(n: int) -> int:
    return n


async def amain() -> None:
    async with brrr.serve("sqlite:///brrr.db") as conn:
        app = brrr.AppWorker(handlers=handlers, codec="json", connection=conn)
        inline = brrr.AppWorker(handlers=dict(fib=fib, hello=hello), codec="json", connection=conn)
        async with asyncio.TaskGroup() as loops:
            loops.create_task(conn.loop("demo", app.handle))
            loops.create_task(conn.loop("demo", inline.handle))
            scheduled = await app.schedule(fib, topic="demo")(11)
            total: int = await app.result(fib, topic=scheduled, timeout=30)(11)
            greeting: str = await app.result(hello, topic="demo")("John")
            sums: list[int] = [await app.read(method)(1), await app.read(thing)(1), await app.read(add_three)(1)]
            print(total, greeting, sums)


async def opened(backend: Backend) -> None:
    async with brrr.serve(backend.queue, backend.store, backend), brrr.connect(backend, backend.store, backend.cache):
        pass


async def test_fib() -> None:
    for each in (of_one_kind, alike):
        brrr.LocalBrrr(handlers=each)
    local = brrr.LocalBrrr(handlers=all_of_them)
    assert await local.run(fib)(11) == 89
    assert await local.run(report)(["John"], loud=True) == "Hello, John!"
    replaced = brrr.LocalBrrr(handlers=handlers, replace={hello: fake_hello, fib: fake_fib}, topic="demo")
    assert await replaced.run(hello)("John") == "John"
    by_name = brrr.LocalBrrr(
        handlers=handlers, replace={"hello": brrr.handler_no_arg(fake_hello), "remote": fake_hello}
    )
    assert await by_name.run("remote")("John") == "John"
    brrr.LocalBrrr(handlers=handlers, replace={hello: "John"})  # type: ignore[dict-item]
    await fib(11)  # type: ignore[arg-type, call-arg] # called directly, it wants the worker
    await hello("John")


if __name__ == "__main__":
    asyncio.run(amain())
