"""Workflows of every shape end with the right value, and leave no message behind."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import brrr_core as brrr
from brrr_testkit.workloads.fleet import TOPIC, UNPARKED, serving


@brrr.handler_no_arg
async def square(n: int) -> int:
    return n * n


@brrr.handler
async def fan_out(app: brrr.ActiveWorker, n: int) -> int:
    return sum(await app.gather(*(app.call(square)(i) for i in range(n))))


@brrr.handler
async def chain(app: brrr.ActiveWorker, n: int) -> list[int]:
    values: list[int] = []
    for i in range(n):
        values.append(await app.call(square)(i + (values[-1] % 7 if values else 0)))
    return values


@brrr.handler
async def fib(app: brrr.ActiveWorker, n: int) -> int:
    if n < 2:
        return n
    return sum(await app.gather(app.call(fib)(n - 2), app.call(fib)(n - 1)))


@brrr.handler
async def tree(app: brrr.ActiveWorker, depth: int, path: str = "") -> int:
    if not depth:
        return 1
    return 1 + sum(await app.gather(app.call(tree)(depth - 1, path + "l"), app.call(tree)(depth - 1, path + "r")))


@brrr.handler
async def deep(app: brrr.ActiveWorker, n: int) -> int:
    return n and 1 + await app.call(deep)(n - 1)


async def test_fan_out(url: str) -> None:
    async with serving(url, {"fan_out": fan_out, "square": square}) as fleet:
        assert await fleet.run(fan_out, 300) == sum(n * n for n in range(300))
        assert await fleet.idle() == (0, 0, 0, 0)


async def test_chain_whose_links_depend_on_each_other(url: str) -> None:
    expected: list[int] = []
    for i in range(40):
        expected.append((i + (expected[-1] % 7 if expected else 0)) ** 2)
    async with serving(url, {"chain": chain, "square": square}, policy=UNPARKED) as fleet:
        assert await fleet.run(chain, 40) == expected
        assert await fleet.idle() == (0, 0, 0, 0)


async def compute_each_number_once(place: str | Sequence[str], n: int, value: int) -> None:
    """Run fib, which asks for most of its numbers twice."""
    finished: Counter[int] = Counter()

    @brrr.handler
    async def fib(app: brrr.ActiveWorker, n: int) -> int:
        number = n if n < 2 else sum(await app.gather(app.call(fib)(n - 2), app.call(fib)(n - 1)))
        finished[n] += 1
        return number

    async with serving(place, {"fib": fib}) as fleet:
        assert await fleet.run(fib, n) == value
        assert await fleet.idle() == (0, 0, 0, 0)
    assert set(finished) == set(range(n + 1))
    assert finished.total() < (n + 1) * 1.5  # concurrently, a call may run twice; its value is written once


async def test_fib_of_200_computes_each_number_once(url: str) -> None:
    await compute_each_number_once(url, 200, 280571172992510140037611932413038677189525)


async def test_binary_tree(url: str) -> None:
    async with serving(url, {"tree": tree}) as fleet:
        assert await fleet.run(tree, 7) == 255
        assert await fleet.idle() == (0, 0, 0, 0)


async def test_diamond_runs_its_shared_corner_once(url: str) -> None:
    runs: Counter[str] = Counter()

    @brrr.handler_no_arg
    async def corner() -> int:
        runs["corner"] += 1
        return 5

    @brrr.handler
    async def side(app: brrr.ActiveWorker, factor: int) -> int:
        return factor * await app.call(corner)()

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(app.call(side)(2), app.call(side)(3)))

    async with serving(url, {"top": top, "side": side, "corner": corner}) as fleet:
        assert await fleet.run(top) == 25
        assert await fleet.idle() == (0, 0, 0, 0)
    assert runs["corner"] == 1


async def test_recursion_to_a_depth_of_500(url: str) -> None:
    async with serving(url, {"deep": deep}) as fleet:
        assert await fleet.run(deep, 500) == 500
        assert await fleet.idle() == (0, 0, 0, 0)


async def test_two_topics_each_with_its_own_worker(url: str) -> None:
    ran: dict[str, str] = {}

    @brrr.handler
    async def remote(app: brrr.ActiveWorker, n: int) -> int:
        ran["remote"] = app.topic
        return await app.call(leaf)(n)

    @brrr.handler
    async def leaf(app: brrr.ActiveWorker, n: int) -> int:
        ran["leaf"] = app.topic
        return n + 1

    @brrr.handler
    async def local(app: brrr.ActiveWorker, n: int) -> int:
        ran["local"] = app.topic
        return 10 * await app.call(remote, topic="other")(n)

    async with serving(url, {"local": local, "remote": remote, "leaf": leaf}, topics=[TOPIC, "other"]) as fleet:
        assert await fleet.run(local, 1) == 20
        assert await fleet.idle() == (0, 0, 0, 0)
    assert ran == {"local": TOPIC, "remote": "other", "leaf": "other"}  # a child stays on its parent's topic


async def test_two_applications_share_the_fleet_by_names_alone(url: str) -> None:
    @brrr.handler_no_arg
    async def double(n: int) -> int:
        return 2 * n

    @brrr.handler
    async def ask(app: brrr.ActiveWorker, n: int) -> str:
        typed = await app.call("double", topic="theirs", returns=int)(n)
        untyped = await app.call("double", topic="theirs")(n)
        return f"{typed} {untyped}"

    async with (
        serving(url, {"ask": ask}, topics=["ours"]) as ours,
        serving(url, {"double": double}, topics=["theirs"]) as theirs,
    ):
        assert await ours.run("ask", 4) == "8 8"
        assert await theirs.idle() == (0, 0, 0, 0)
        assert await theirs.app.read("double", returns=int)(4) == 8


async def test_two_workers_on_one_topic_share_the_work(url: str) -> None:
    ran: Counter[int] = Counter()
    both = asyncio.Event()

    def made(worker: int) -> brrr.Task:
        async def leaf(n: int) -> int:
            ran[worker] += 1
            if len(ran) == 2:
                both.set()
            await both.wait()  # one worker alone cannot pass
            return n

        return brrr.handler_no_arg(leaf)

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(*(app.call("leaf", returns=int)(n) for n in range(40))))

    async with (
        serving(url, {"top": top, "leaf": made(1)}, concurrency=8) as one,
        serving(url, {"top": top, "leaf": made(2)}, concurrency=8),
    ):
        assert await one.run(top) == sum(range(40))
        assert await one.idle() == (0, 0, 0, 0)
    assert ran.total() == 40


async def test_child_that_is_called_repeatedly_runs_once(url: str) -> None:
    runs: Counter[str] = Counter()

    @brrr.handler_no_arg
    async def leaf() -> int:
        runs["leaf"] += 1
        return 1

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(*(app.call(leaf)() for _ in range(50)))) + await app.call(leaf)()

    async with serving(url, {"top": top, "leaf": leaf}) as fleet:
        assert await fleet.run(top) == 51
    assert runs["leaf"] == 1


async def test_finished_call_does_not_run_again(url: str) -> None:
    runs: Counter[int] = Counter()

    @brrr.handler_no_arg
    async def leaf(n: int) -> int:
        runs[n] += 1
        return n

    async with serving(url, {"leaf": leaf}) as fleet:
        assert await fleet.run(leaf, 1) == 1
        await fleet.idle()  # the result is there before its message is acknowledged
        again = await fleet.app.schedule(leaf, topic=TOPIC)(1)
        assert again.root_id is None
        assert (await fleet.stats()) == (0, 0, 0, 0)
    assert runs == {1: 1}
