"""The lifespan of an application: one state for all its loops, entered before the first and left after the last."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

import brrr_core as brrr
from brrr_core.engine.run import Run
from brrr_core.errors import LifespanError
from brrr_core.wire import Call
from brrr_testkit.waiting import BOUND, until
from brrr_testkit.workloads.fleet import QUICK, TOPIC, serving


class Clients:
    """The state of these tests."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = False


class Life:
    """A lifespan that keeps the states it yielded."""

    def __init__(self) -> None:
        self.states: list[Clients] = []
        self.tasks: list[asyncio.Task[object] | None] = []

    def ended(self) -> list[bool]:
        return [state.closed for state in self.states]

    @asynccontextmanager
    async def __call__(self, app: brrr.AppWorker) -> AsyncGenerator[Clients]:
        self.tasks.append(asyncio.current_task())
        self.states.append(Clients(len(self.states) + 1))
        await asyncio.sleep(0)
        yield self.states[-1]
        self.states[-1].closed = True
        self.tasks.append(asyncio.current_task())


@brrr.handler
async def asks(app: brrr.ActiveWorker[Clients], name: str) -> int:
    assert not app.state.closed
    return app.state.number


@brrr.handler_no_arg
def in_thread(name: str) -> int:
    state: Clients = brrr.current().state
    return state.number


async def connect() -> Clients:
    raise OSError("no database")


HANDLERS = {"asks": asks, "in_thread": in_thread}


async def test_all_loops_of_an_application_share_one_state(url: str) -> None:
    life = Life()
    async with serving(url, HANDLERS, topics=[TOPIC, "other"], lifespan=life) as fleet:
        numbers = [await fleet.run(asks, "a"), await fleet.run(in_thread, "b")]
        await fleet.app.schedule(asks, topic="other")("c")
        numbers.append(await fleet.app.result(asks, timeout=BOUND)("c"))
        assert life.ended() == [False]
    assert numbers == [1, 1, 1]
    assert life.ended() == [True]


async def test_state_ends_after_the_last_loop_in_the_task_that_began_it(memory: str) -> None:
    life = Life()
    async with brrr.serve(memory, policy=QUICK) as connection:
        app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection, lifespan=life)
        first, last = [asyncio.create_task(connection.loop(topic, app.handle)) for topic in ("a", "b")]
        await until(lambda: bool(life.states), "the state exists")
        first.cancel()
        await asyncio.wait({first})
        assert life.ended() == [False]
        last.cancel()
        await asyncio.wait({last})
        assert life.ended() == [True]
        assert life.tasks[0] is life.tasks[1]


async def test_new_state_is_made_after_the_last_loop_has_ended(memory: str) -> None:
    life = Life()
    async with brrr.serve(memory, policy=QUICK) as connection:
        app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection, lifespan=life)
        for number in (1, 2):
            loop = asyncio.create_task(connection.loop(TOPIC, app.handle))
            await app.schedule(asks, topic=TOPIC)(str(number))
            assert await app.result(asks, timeout=BOUND)(str(number)) == number
            loop.cancel()
            await asyncio.wait({loop})
    assert life.ended() == [True, True]


@pytest.mark.parametrize("kind", ["raises", "no context manager", "no parameter"])
async def test_lifespan_that_fails_at_its_start_ends_the_loop_before_it_receives(memory: str, kind: str) -> None:
    @asynccontextmanager
    async def raises(app: brrr.AppWorker) -> AsyncGenerator[Clients]:
        yield await connect()

    async def generator(app: brrr.AppWorker) -> AsyncGenerator[None]:
        yield

    @asynccontextmanager
    async def bare() -> AsyncGenerator[None]:
        yield

    lifespan, said = {
        "raises": (raises, "'raises' failed before its `yield`.*OSError: no database"),
        "no context manager": (generator, "a async_generator, not an async context manager.*asynccontextmanager"),
        "no parameter": (bare, "takes 0 positional arguments.*one parameter, the application"),
    }[kind]
    async with brrr.serve(memory, policy=QUICK) as connection:
        app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection, lifespan=lifespan)  # type: ignore[arg-type] # some are wrong
        await app.schedule(asks, topic=TOPIC)("a")
        with pytest.raises(LifespanError, match=said):
            await connection.loop(TOPIC, app.handle)
        (letter,) = await connection.queue.receive(TOPIC, limit=1, wait=0)
        assert letter.attempt == 1  # it was not received before


async def test_failure_after_the_yield_is_raised_when_the_calls_are_settled(memory: str) -> None:
    @asynccontextmanager
    async def fails(app: brrr.AppWorker) -> AsyncGenerator[Clients]:
        yield Clients(7)
        raise OSError("the pool is stuck")

    async with brrr.serve(memory, policy=QUICK) as connection:
        app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection, lifespan=fails)
        loop = asyncio.create_task(connection.loop(TOPIC, app.handle))
        await app.schedule(asks, topic=TOPIC)("a")
        assert await app.result(asks, timeout=BOUND)("a") == 7
        connection.stop()
        with pytest.raises(LifespanError, match="'fails' failed after its `yield`: OSError: the pool is stuck"):
            await loop
        assert await connection.queue.stats(TOPIC) == (0, 0, 0, 0)


async def test_lifespan_that_ends_by_itself_stops_the_loops(memory: str) -> None:
    broken = asyncio.Event()

    async def watch() -> None:
        await broken.wait()
        raise OSError("the connection broke")

    @asynccontextmanager
    async def guarded(app: brrr.AppWorker) -> AsyncGenerator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(watch())
            yield

    async with brrr.serve(memory, policy=QUICK) as connection:
        app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection, lifespan=guarded)
        loops = [asyncio.create_task(connection.loop(topic, app.handle)) for topic in ("a", "b")]
        await asyncio.sleep(0)
        broken.set()
        async with asyncio.timeout(BOUND):
            ended = await asyncio.gather(*loops, return_exceptions=True)
    assert [type(each) for each in ended if each is not None] == [LifespanError]


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_stop_does_not_wait_for_a_state_that_does_not_exist_yet(memory: str, how: str) -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def slow(app: brrr.AppWorker) -> AsyncGenerator[None]:
        steps.append("entering")
        try:
            await asyncio.Event().wait()
            yield
        finally:
            steps.append("cleaned up")

    async with brrr.serve(memory, policy=QUICK) as connection:
        app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection, lifespan=slow)
        await app.schedule(asks, topic=TOPIC)("a")
        loops = [asyncio.create_task(connection.loop(TOPIC, app.handle)) for _ in range(2)]
        await until(lambda: bool(steps), "the lifespan is entered")
        if how == "stop":
            connection.stop()
        else:
            for loop in loops:
                loop.cancel()
        async with asyncio.timeout(BOUND):
            ended = await asyncio.gather(*loops, return_exceptions=True)
        assert [type(each) for each in ended] == [type(None) if how == "stop" else asyncio.CancelledError] * 2
        (letter,) = await connection.queue.receive(TOPIC, limit=1, wait=0)
        assert letter.attempt == 1
    assert steps == ["entering", "cleaned up"]


async def test_cancelling_one_of_two_loops_leaves_the_state_to_the_other(memory: str) -> None:
    ready = asyncio.Event()

    @asynccontextmanager
    async def slow(app: brrr.AppWorker) -> AsyncGenerator[Clients]:
        await ready.wait()
        yield Clients(3)

    async with brrr.serve(memory, policy=QUICK) as connection:
        app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection, lifespan=slow)
        first, other = [asyncio.create_task(connection.loop(TOPIC, app.handle)) for _ in range(2)]
        await asyncio.sleep(0)
        first.cancel()
        ready.set()
        await app.schedule(asks, topic=TOPIC)("a")
        assert await app.result(asks, timeout=BOUND)("a") == 3
        connection.stop()
        await other


def wrapped(app: brrr.AppWorker) -> Callable[[Run, Call], Awaitable[bytes]]:
    """A function around `handle`, behind which a loop cannot see the application."""

    async def handle(run: Run, call: Call) -> bytes:
        return await app.handle(run, call)

    return handle


async def test_program_enters_the_lifespan_itself_if_it_wraps_handle(memory: str) -> None:
    life = Life()
    async with brrr.serve(memory, policy=QUICK) as connection:
        app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection, lifespan=life)
        async with app:
            assert app.state is life.states[0]
            loop = asyncio.create_task(connection.loop(TOPIC, wrapped(app)))
            await app.schedule(asks, topic=TOPIC)("a")
            assert await app.result(asks, timeout=BOUND)("a") == 1
            connection.stop()
            await loop
            assert life.ended() == [False]
        assert life.ended() == [True]
        with pytest.raises(LifespanError, match="before it began, or after it ended"):
            _ = app.state


async def test_state_without_lifespan_is_an_error_that_says_so() -> None:
    with pytest.raises(LifespanError, match=r"no state.*Pass `lifespan` to `AppWorker`"):
        await brrr.LocalBrrr(handlers=HANDLERS).run(asks)("a")


async def test_local_run_enters_and_leaves_the_lifespan() -> None:
    life = Life()
    local = brrr.LocalBrrr(handlers=HANDLERS, lifespan=life)
    assert [await local.run(asks)("a"), await local.run(in_thread)("a")] == [1, 2]
    assert life.ended() == [True, True]


async def test_local_run_raises_the_failure_of_its_lifespan() -> None:
    @asynccontextmanager
    async def fails(app: brrr.AppWorker) -> AsyncGenerator[Clients]:
        yield await connect()

    with pytest.raises(LifespanError, match="no database"):
        await brrr.LocalBrrr(handlers=HANDLERS, lifespan=fails).run(asks)("a")
