# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Types of scheduling and reading: mypy and pyright check this file, and nothing runs it."""

from typing import Any, assert_type

import brrr_core as brrr
from tests.project.typing.check_handlers import fib, hello, in_a_thread, nothing, plain


async def client(app: brrr.AppConsumer) -> None:
    assert_type(await app.schedule(fib, topic="t")(11), brrr.Scheduled)
    assert_type(await app.schedule(fib, topic="t", delay=3, redrive=True)(n=11, salt=None), brrr.Scheduled)
    assert_type(await app.schedule("fib", topic="t")(1, x=2), brrr.Scheduled)
    assert_type(await app.read(fib)(11), int)
    assert_type(await app.read(hello)("John"), str)
    assert_type(await app.read(in_a_thread)(1), list[int])
    assert_type(await app.read(nothing)(), None)
    assert_type(await app.read("fib")(11), Any)
    assert_type(await app.read("fib", returns=int)(11), int)
    assert_type(await app.result(fib)(11), int)
    assert_type(await app.result(plain, timeout=3)(11), bytes)
    assert_type(await app.result("fib", timeout=3)(11), Any)
    assert_type(await app.result("fib", timeout=3, returns=dict[str, int])(11), dict[str, int])

    await app.schedule(fib)(11)  # type: ignore[call-overload] # no topic
    await app.schedule(fib, topic="t")("eleven")  # type: ignore[arg-type]
    await app.read(fib)()  # type: ignore[call-arg]
    await app.read(hello)(greetee=3)  # type: ignore[arg-type]
    await app.result(fib)(11, salt=3)  # type: ignore[arg-type]
    app.read(fib, returns=int)  # type: ignore[call-overload]


def sync_client() -> None:
    with brrr.sync.connect("sqlite:///brrr.db") as app:
        assert_type(app, brrr.sync.Client)
        assert_type(app.schedule(fib, topic="t")(11), brrr.Scheduled)
        assert_type(app.schedule("fib", topic="t")(1, x=2), brrr.Scheduled)
        assert_type(app.read(fib)(11), int)
        assert_type(app.read("fib")(11), Any)
        assert_type(app.result(hello, timeout=3)("John"), str)
        assert_type(app.result("fib", returns=dict[str, int])(11), dict[str, int])
        assert_type(app.wait(lambda consumer: consumer.read(plain)(3)), bytes)
        assert_type(app.status(fib)(11), brrr.CallStatus)
        assert_type(app.cancel(fib, topic="t")(11), bool)
        assert_type(app.retry("fib", topic="t")(11), bool)
        assert_type(app.complete(fib)(11)(89), bool)
        assert_type(app.event("approval", 7).complete(True), bool)
        assert_type(app.event("approval", 7).read(returns=int), Any)
        app.complete(fib)(11)("89")  # type: ignore[arg-type]
        app.cancel_schedule(app.schedule(fib, topic="t")(11))

        app.schedule(fib)(11)  # type: ignore[call-overload] # no topic
        app.cancel(fib, topic="t")("eleven")  # type: ignore[arg-type]
        app.cancel_schedule(11)  # type: ignore[arg-type]
        app.schedule(fib, topic="t")("eleven")  # type: ignore[arg-type]
        app.result(fib)(11, salt=3)  # type: ignore[arg-type]
        app.read(fib, returns=int)  # type: ignore[call-overload]


async def worker() -> None:
    async with brrr.serve("sqlite:///brrr.db", policy=brrr.Policy(check=True)) as connection:
        assert_type(connection, brrr.Connection)
        app = brrr.AppWorker(handlers={"fib": fib, "hello": hello, "plain": plain}, codec="json", connection=connection)
        mixed = brrr.AppWorker(handlers={"a": in_a_thread, "b": nothing}, codec="json", connection=connection)
        await connection.loop("demo", app.handle)
        await connection.loop("demo", mixed.handle, concurrency=4)
        assert_type(await app.result(fib)(11), int)
        await connection.loop("demo", fib)  # type: ignore[arg-type] # a handler is not what a loop calls
        brrr.AppWorker(handlers={"len": len}, codec="json", connection=connection)  # type: ignore[dict-item]


async def unit_tests() -> None:
    local = brrr.LocalBrrr(handlers={"fib": fib, "hello": hello})
    assert_type(await local.run(fib)(11), int)
    assert_type(await local.run(hello)("John"), str)
    assert_type(await local.run("hello")("John"), Any)
    await local.run(fib)("eleven")  # type: ignore[arg-type]
