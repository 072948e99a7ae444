"""The first program of a user: two tasks, a worker and a client."""

import asyncio

import brrr_core as brrr


@brrr.handler
async def fib(app: brrr.ActiveWorker, n: int, salt=None):
    match n:
        case 0:
            return 0
        case 1:
            return 1
        case _:
            return sum(await app.gather(app.call(fib)(n - 2), app.call(fib)(n - 1)))


@brrr.handler_no_arg
async def hello(greetee: str):
    return f"Hello, {greetee}!"


async def amain():
    async with brrr.serve("sqlite:///brrr.db") as conn:
        app = brrr.AppWorker(handlers=dict(fib=fib, hello=hello), codec="json", connection=conn)
        worker = asyncio.create_task(conn.loop("demo", app.handle))
        try:
            await app.schedule(fib, topic="demo")(11)
            await app.schedule(hello, topic="demo")("John")
            print(await app.result(fib, timeout=30)(11))
            print(await app.result(hello, timeout=30)("John"))
        finally:
            worker.cancel()
            await asyncio.wait([worker])


asyncio.run(amain())
