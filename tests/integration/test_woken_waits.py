"""A client that waits for a result is woken by its store, and reads regularly in case no hint comes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import brrr_core as brrr
from brrr_core.backend import BackendUrl, Key, Notifier, Roles, Swap, Wake
from brrr_core.backend.memory import MemoryBackend
from brrr_core.engine.connection import Connection
from brrr_core.engine.control import MARKER
from brrr_core.engine.waiting import DeadLetters, DeadLetterScope, wait_for_value
from brrr_core.errors import BackendClosedError, ResultTimeoutError
from brrr_core.wire import Call
from brrr_testkit.faults.instrument import Instrument
from tests.support.virtual import run_virtually

CREATED = b"1"


class Client:
    """A connection on a memory backend, whose operations are counted."""

    def __init__(self, backend: MemoryBackend, roles: Roles, instrument: Instrument) -> None:
        assert roles.queue is not None
        assert roles.store is not None
        assert roles.cache is not None
        self.backend = backend
        self.store = backend.store
        self.roles = roles
        self.instrument = instrument
        self.connection = Connection(roles.queue, roles.store, roles.cache)
        self.letters = DeadLetters(roles.queue, "topic")

    async def value(self, name: str, timeout: float | None = None, root_id: str | None = None) -> bytes:
        return await wait_for_value(
            self.connection,
            Call("task", b"", name),
            timeout=timeout,
            scope=lambda: DeadLetterScope(self.letters, root_id),
            letters=lambda _: self.letters,
        )

    def waits(self, *names: str, timeout: float | None = None) -> "list[asyncio.Task[bytes]]":
        return [asyncio.ensure_future(self.value(name, timeout)) for name in names]

    async def create(self, *names: str) -> None:
        await self.store.swap([Swap(Key("value", name), None, CREATED) for name in names])

    @property
    def reads(self) -> int:
        """The number of reads, without those of the marker of cancellations, which a connection reads once a second."""
        return sum(each.name == "store.read" and MARKER not in each.items for each in self.instrument.operations)


@asynccontextmanager
async def client_of(notifier: object = "own") -> AsyncIterator[Client]:
    """Open a client in virtual time: with the notifier of the store, or with another one, or with None."""
    instrument = Instrument()
    backend = MemoryBackend(BackendUrl("memory"), clock=asyncio.get_running_loop().time)
    async with backend:
        roles = instrument.wrap(backend.roles)
        assert roles.store is not None
        if notifier != "own":
            roles.store.notifier = notifier  # type: ignore[assignment]
        client = Client(backend, roles, instrument)
        yield client
        await client.connection.close()


class Deaf(Notifier):
    """A notifier that accepts watches, and wakes only when the test does."""

    def __init__(self, *, in_force: bool = True) -> None:
        self.in_force = in_force
        self.wakes: list[Wake] = []

    async def watch(self, call_hash: str, wake: Wake) -> bool:
        self.wakes.append(wake)
        return self.in_force

    def unwatch(self, call_hash: str, wake: Wake) -> None:
        self.wakes.remove(wake)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_wait_is_woken_at_the_instant_of_the_value() -> None:
    async def main() -> None:
        async with client_of() as client:
            (waiting,) = client.waits("a")
            await asyncio.sleep(0.3)
            await client.create("a")
            at = now()
            assert await waiting == CREATED
            assert (now(), client.reads) == (at, 3)  # before the watch, after it, and when woken

    run_virtually(main())


def test_call_that_this_program_has_put_is_watched_before_it_is_read() -> None:
    async def main() -> None:
        async with client_of() as client:
            waiting = asyncio.ensure_future(client.value("a", root_id="root"))
            await asyncio.sleep(0.3)
            await client.create("a")
            assert (await waiting, client.reads) == (CREATED, 2)

    run_virtually(main())


def test_thousand_waits_share_one_read_every_two_seconds() -> None:
    async def main() -> None:
        async with client_of() as client:
            waiting: list[asyncio.Task[bytes]] = []
            for number in range(1000):
                waiting += client.waits(f"call-{number}")
                await asyncio.sleep(0.0011)  # they begin at different times
            await asyncio.sleep(1)
            before = client.reads
            await asyncio.sleep(20)
            # A thousand values and a thousand notes: two batches of the largest size.
            assert client.reads - before == 10 * 2
            await client.create(*(f"call-{number}" for number in range(1000)))
            assert await asyncio.gather(*waiting) == [CREATED] * 1000
            assert client.reads - before == 11 * 2

    run_virtually(main())


@pytest.mark.parametrize("notifier", [None, Deaf(in_force=False)], ids=["none", "not in force"])
def test_without_hints_waits_poll_twice_a_second_in_one_batch(notifier: Notifier | None) -> None:
    async def main() -> None:
        async with client_of(notifier) as client:
            waiting: list[asyncio.Task[bytes]] = []
            for number in range(100):
                waiting += client.waits(f"call-{number}")
                await asyncio.sleep(0.003)
            await asyncio.sleep(1)
            before = client.reads
            await asyncio.sleep(20)
            assert client.reads - before == 40
            await client.create(*(f"call-{number}" for number in range(100)))
            await asyncio.gather(*waiting)

    run_virtually(main())


def test_value_whose_hint_is_lost_is_found_within_two_seconds() -> None:
    async def main() -> None:
        async with client_of(Deaf()) as client:
            (waiting,) = client.waits("a")
            await asyncio.sleep(0.3)
            await client.create("a")
            assert await waiting == CREATED
            assert now() == 2

    run_virtually(main())


def test_value_is_read_again_soon_after_a_hint_that_came_early() -> None:
    async def main() -> None:
        deaf = Deaf()
        async with client_of(deaf) as client:
            (waiting,) = client.waits("a")
            await asyncio.sleep(0.3)
            deaf.wakes[0]()
            await asyncio.sleep(0.002)
            await client.create("a")
            assert await waiting == CREATED
            assert now() < 0.32

    run_virtually(main())


def test_value_that_is_deleted_before_it_is_read_is_waited_for_again() -> None:
    async def main() -> None:
        async with client_of() as client:
            (waiting,) = client.waits("a")
            await asyncio.sleep(0.3)
            await client.create("a")
            await client.store.swap([Swap(Key("value", "a"), CREATED, None)])
            await asyncio.sleep(5)
            assert not waiting.done()
            await client.create("a")
            at = now()
            assert (await waiting, now()) == (CREATED, at)

    run_virtually(main())


def test_value_that_is_there_is_read_once_and_not_watched() -> None:
    async def main() -> None:
        deaf = Deaf()
        async with client_of(deaf) as client:
            await client.create("a")
            deaf.in_force = False
            assert await client.value("a") == CREATED
            assert (client.reads, deaf.wakes) == (1, [])

    run_virtually(main())


def test_wait_that_ends_in_any_way_ends_its_watch() -> None:
    async def main() -> None:
        deaf = Deaf()
        async with client_of(deaf) as client:
            waits = client.waits("a", "a", "b")
            late = client.waits("c", timeout=3)
            await asyncio.sleep(1)
            assert len(deaf.wakes) == 4
            waits[0].cancel()
            await client.create("a", "b")
            with pytest.raises(ResultTimeoutError):
                await late[0]
            await asyncio.wait(waits)
            assert deaf.wakes == []
            assert now() == 3

    run_virtually(main())


def test_closing_the_backend_ends_waits_at_once() -> None:
    async def main() -> None:
        async with client_of() as client:
            waits = client.waits("a", "b")
            await asyncio.sleep(0.3)
            at = now()
            await client.backend.close()
            assert [type(each) for each in await asyncio.gather(*waits, return_exceptions=True)] == [
                BackendClosedError
            ] * 2
            assert now() == at

    run_virtually(main())


async def test_many_waits_of_one_call_get_its_result(url: str) -> None:
    @brrr.handler_no_arg
    async def answer() -> int:
        return 42

    async with brrr.serve(url) as serving, brrr.connect(url) as connection:
        app = brrr.AppWorker(handlers={"answer": answer}, codec="json", connection=serving)
        client = brrr.AppConsumer(codec="json", connection=connection)
        waits = [asyncio.ensure_future(client.result("answer", timeout=60)()) for _ in range(50)]
        await asyncio.sleep(0)
        loop = asyncio.create_task(serving.loop("topic", app.handle))
        await client.schedule(answer, topic="topic")()
        assert await asyncio.gather(*waits) == [42] * 50
        serving.stop()
        await loop
