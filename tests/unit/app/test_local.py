"""`LocalBrrr` runs whole workflows for unit tests, raises what fails, and leaves nothing behind."""

import asyncio
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

import brrr_core as brrr
from brrr_core.errors import (
    ArgumentError,
    CycleError,
    EncodeError,
    HandlerError,
    NondeterminismError,
    SignatureError,
    SpawnLimitError,
    UnknownTaskError,
)
from brrr_testkit.waiting import until

BOUND = 20.0


@brrr.handler
async def fib(app: brrr.ActiveWorker, n: int) -> int:
    if n < 2:
        return n
    return sum(await app.gather(app.call(fib)(n - 2), app.call(fib)(n - 1)))


@pytest.mark.parametrize("codec", ["json", "json-object", "msgpack"])
async def test_workflow_runs_locally_with_any_codec(codec: str) -> None:
    local = brrr.LocalBrrr(handlers={"fib": fib}, codec=codec)
    assert await local.run(fib)(11) == 89
    assert await local.run("fib")(n=12) == 144


async def test_each_local_run_starts_with_an_empty_store() -> None:
    runs: Counter[str] = Counter()

    @brrr.handler_no_arg
    async def leaf() -> int:
        runs["leaf"] += 1
        return runs["leaf"]

    local = brrr.LocalBrrr(handlers={"leaf": leaf})
    assert [await local.run(leaf)(), await local.run(leaf)()] == [1, 2]


async def test_local_run_works_on_every_called_topic() -> None:
    @brrr.handler
    async def hop(app: brrr.ActiveWorker, n: int) -> list[str]:
        return [app.topic, *(await app.call(hop, topic=f"topic {n}")(n - 1) if n else [])]

    async with asyncio.timeout(BOUND):
        assert await brrr.LocalBrrr(handlers={"hop": hop}).run(hop)(3) == ["local", "topic 3", "topic 2", "topic 1"]


async def test_error_of_a_handler_is_raised_at_once_and_unchanged() -> None:
    class OddError(Exception):
        pass

    odd = OddError("odd")

    @brrr.handler_no_arg
    async def bad() -> None:
        raise odd

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> None:
        await app.call(bad)()

    with pytest.raises(OddError) as caught:
        async with asyncio.timeout(BOUND):
            await brrr.LocalBrrr(handlers={"top": top, "bad": bad}).run(top)()
    assert caught.value is odd


async def test_failed_call_is_settled_before_concurrent_calls_end() -> None:
    begun = asyncio.Event()

    @brrr.handler_no_arg
    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    @brrr.handler_no_arg
    async def bad() -> None:
        await begun.wait()
        raise ValueError("bad")

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> None:
        await app.gather(app.call(endless)(), app.call(bad)())

    with pytest.raises(ValueError, match="bad"):
        async with asyncio.timeout(BOUND):
            await brrr.LocalBrrr(handlers={"top": top, "bad": bad, "endless": endless}).run(top)()


async def test_cancelling_a_run_ends_it_at_once_and_leaves_no_task() -> None:
    begun = asyncio.Event()

    @brrr.handler_no_arg
    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    before = asyncio.all_tasks()
    running = asyncio.create_task(brrr.LocalBrrr(handlers={"endless": endless}).run(endless)())
    await begun.wait()
    running.cancel()
    async with asyncio.timeout(BOUND):
        await asyncio.wait({running})
    assert running.cancelled()
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("turns", range(25))
async def test_new_topic_does_not_delay_the_end_of_a_run(turns: int) -> None:
    @brrr.handler_no_arg
    async def bad() -> None:
        raise ValueError("bad")

    @brrr.handler
    async def late(app: brrr.ActiveWorker) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await app.call(bad, topic="other")()

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> None:
        await app.gather(app.call(bad)(), app.call(late)())

    with pytest.raises(ValueError, match="bad"):
        async with asyncio.timeout(BOUND):
            await brrr.LocalBrrr(handlers={"top": top, "bad": bad, "late": late}).run(top)()


async def test_its_handlers_are_checked_for_determinism() -> None:
    numbers = iter(range(100))

    @brrr.handler
    async def fickle(app: brrr.ActiveWorker) -> int:
        return await app.call(fib)(next(numbers) % 2)

    with pytest.raises(NondeterminismError):
        await brrr.LocalBrrr(handlers={"fickle": fickle, "fib": fib}).run(fickle)()


async def test_local_run_raises_when_the_engine_dead_letters() -> None:
    @brrr.handler
    async def forever(app: brrr.ActiveWorker, n: int) -> None:
        await app.call(forever)(n + 1)

    policy = brrr.Policy(spawn_limit=20, max_attempts=1)
    with pytest.raises(SpawnLimitError):
        await brrr.LocalBrrr(handlers={"forever": forever}, policy=policy).run(forever)(0)
    with pytest.raises(UnknownTaskError):
        await brrr.LocalBrrr(handlers={"fib": fib}).run("missing")()


async def test_sync_handlers_and_their_threads_end_with_the_run() -> None:
    @brrr.handler
    def double(app: brrr.ActiveWorker, n: int) -> int:
        return 2 * app.wait(app.call(fib)(n))

    assert await brrr.LocalBrrr(handlers={"double": double, "fib": fib}).run(double)(10) == 110

    async def ended() -> bool:
        return not any(thread.name.startswith("brrr") for thread in threading.enumerate())

    await until(ended)


@pytest.mark.parametrize(
    ("arguments", "error"), [((), SignatureError), ((object(),), EncodeError)], ids=["do not fit", "are not encodable"]
)
async def test_arguments_that_are_refused_are_refused_by_one_error_and_not_by_a_group(
    arguments: tuple[object, ...], error: type[brrr.BrrrError]
) -> None:
    with pytest.raises(error):
        await brrr.LocalBrrr(handlers={"fib": fib}).run("fib")(*arguments)


async def test_calls_that_wait_for_each_other_raise_instead_of_waiting_forever() -> None:
    @brrr.handler
    async def ping(app: brrr.ActiveWorker, n: int) -> object:
        return await app.call(pong, topic="other")(n)

    @brrr.handler
    async def pong(app: brrr.ActiveWorker, n: int) -> object:
        return await app.call(ping)(n)

    with pytest.raises(CycleError, match="wait for each other"):
        await brrr.LocalBrrr(handlers={"ping": ping, "pong": pong}).run(ping)(1)


@dataclass
class Order:
    item: str
    cents: int = 100


@brrr.handler_no_arg
async def pay(order: Order, currency: str = "EUR") -> str:
    raise RuntimeError("this costs money")


@brrr.handler
async def shop(app: brrr.ActiveWorker, item: str) -> list[str]:
    return [
        *await app.gather(app.call(pay)(Order(item)), app.call("pay", returns=str)(Order(item, 2), "USD")),
        await app.call(pay)(currency="CHF", order=Order(item, 3)),
    ]


SHOP = {"shop": shop, "pay": pay}
PAID = ["tea 100", "tea 2 USD", "tea 3 CHF"]


@brrr.handler_no_arg
async def describe(item: str, cents: int, more: list[str]) -> str:
    return " ".join([item, str(cents), *more])


async def fake_pay(order: Order, *currency: str) -> str:
    assert isinstance(order, Order)
    return " ".join([order.item, str(order.cents), *currency])


def fake_pay_in_a_thread(bought: Any, *currency: str) -> str:
    return f"{bought.item} {bought.cents}{''.join(f' {name}' for name in currency)}"


async def fake_pay_with_app(app: brrr.ActiveWorker, order: Order, *currency: str) -> str:
    return await app.call(describe)(order.item, order.cents, list(currency))


FAKES: dict[str, Any] = {
    "function": fake_pay,
    "sync function": fake_pay_in_a_thread,
    "lambda": lambda order, *currency: " ".join([order.item, str(order.cents), *currency]),
    "handler": brrr.handler_no_arg(fake_pay),
    "function with app": fake_pay_with_app,
    "handler with app": brrr.handler(fake_pay_with_app),
    "mock": Mock(side_effect=fake_pay_in_a_thread),
    "async mock": AsyncMock(side_effect=fake_pay),
}


@pytest.mark.parametrize("codec", ["json", "json-object"])
@pytest.mark.parametrize("kind", FAKES)
@pytest.mark.parametrize("replaced", [pay, "pay"], ids=["handler", "name"])
async def test_replacement_runs_for_calls_by_handler_and_by_name(replaced: Any, kind: str, codec: str) -> None:
    local = brrr.LocalBrrr(handlers={**SHOP, "describe": describe}, replace={replaced: FAKES[kind]}, codec=codec)
    assert await local.run(shop)("tea") == PAID


async def test_replacement_of_name_without_handler_stands_for_another_program() -> None:
    @brrr.handler
    async def asks(app: brrr.ActiveWorker, n: int) -> int:
        return await app.call("far away", topic="other", returns=int)(n)

    for fake in (AsyncMock(return_value=7), Mock(return_value=7), brrr.handler_no_arg(lambda n: n)):
        assert await brrr.LocalBrrr(handlers={"asks": asks}, replace={"far away": fake}).run(asks)(7) == 7


async def test_replacement_must_keep_type_of_result() -> None:
    with pytest.raises(EncodeError, match="does not fit its annotation"):
        await brrr.LocalBrrr(handlers=SHOP, replace={pay: lambda *_: 3}).run(shop)("tea")


async def test_replacement_leaves_handlers_as_they_are() -> None:
    await brrr.LocalBrrr(handlers=SHOP, replace={pay: fake_pay}).run(shop)("tea")
    with pytest.raises(RuntimeError, match="this costs money"):
        await brrr.LocalBrrr(handlers=SHOP).run(shop)("tea")


async def test_replacement_of_unknown_handler_or_by_no_function_is_refused() -> None:
    with pytest.raises(UnknownTaskError, match="the handler 'pay' is not registered"):
        await brrr.LocalBrrr(handlers={"shop": shop}, replace={pay: fake_pay}).run(shop)("tea")
    with pytest.raises(HandlerError, match="str cannot be called"):
        await brrr.LocalBrrr(handlers=SHOP, replace={pay: "paid"}).run(shop)("tea")  # type: ignore[dict-item]


async def test_run_begins_on_given_topic() -> None:
    @brrr.handler
    async def where(app: brrr.ActiveWorker) -> str:
        return app.topic

    assert await brrr.LocalBrrr(handlers={"where": where}, topic="demo").run(where)() == "demo"
    with pytest.raises(ArgumentError):
        brrr.LocalBrrr(handlers={"where": where}, topic="")
