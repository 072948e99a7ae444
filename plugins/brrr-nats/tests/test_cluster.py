"""Three servers with three replicas under load, while they die, pause, restart and change leaders.

Every test ends with correct results, empty queues, no dead letter, and every message whose put returned.
"""

import asyncio
import signal

import pytest

import brrr_core as brrr
from brrr_core.errors import BackendUnavailableError
from brrr_testkit.faults.relay import Bytes, relayed
from brrr_testkit.servers.nats import BOUND, Cluster, nats_program, until
from brrr_testkit.workloads.load import under_load

nats_program()

pytestmark = pytest.mark.cluster

OPTIONS = "replicas=3&lease=3s&retry_for=30s&timeout=5s&connect_timeout=2s"
PAUSE = 11.0
"""Seconds that a server is paused: followers wait at most 9 before they elect another leader."""

QUEUE, RECORDS = "brrr", "KV_brrr"


def at(cluster: Cluster) -> str:
    return f"{cluster.url}?{OPTIONS}"


async def test_every_message_of_a_pull_is_delivered_once(shared_cluster, names):
    """A replicated consumer sends the end of a pull at once, and the messages when a majority knows of them."""
    url = f"{shared_cluster.url}?replicas=3&lease=300s&stream={names}-q&bucket={names}-s"
    number = 2000
    try:
        async with brrr.open_backend(url) as backend:
            queue = backend.queue
            seen: dict[bytes, int] = {}

            async def consume() -> None:
                while len(seen) < number:
                    found = await queue.receive("jobs", limit=7, wait=0.2)
                    seen.update((each.body, each.attempt) for each in found)
                    await queue.ack(found)

            async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
                for _ in range(4):
                    tasks.create_task(consume())
                for at in range(0, number, 20):
                    await queue.put("jobs", [b"%d" % each for each in range(at, at + 20)])
            assert set(seen.values()) == {1}
    finally:
        shared_cluster.servers[0].forget(f"{names}-")


async def test_dead_letters_are_put_back_once_by_several_operators(shared_cluster, names):
    url = f"{shared_cluster.url}?replicas=3&stream={names}-q&bucket={names}-s"
    try:
        async with brrr.open_backend(url) as backend:
            queue = backend.queue
            await queue.put("jobs", [b"%d" % number for number in range(30)])
            for each in await queue.receive("jobs", limit=30, wait=5):
                await queue.bury(each, "tried")

            counts = await asyncio.gather(*(queue.redrive("jobs", limit=30) for _ in range(4)))

            assert sum(counts) == 30
            assert (await queue.stats("jobs"))[::3] == (30, 0)
    finally:
        shared_cluster.servers[0].forget(f"{names}-")


@pytest.mark.parametrize("stream", [QUEUE, RECORDS])
async def test_load_survives_a_killed_leader(own_cluster, stream):
    def kill() -> None:
        leader = own_cluster.leader(stream)
        leader.kill()
        own_cluster.leader(stream)
        leader.start()
        own_cluster.ready()

    load = await under_load(at(own_cluster), lambda: asyncio.to_thread(kill))

    assert load.rounds > 1


async def test_load_survives_a_paused_leader(own_cluster):
    def pause() -> None:
        leader = own_cluster.leader(QUEUE)
        leader.pause()
        try:
            others = [server for server in own_cluster.servers if server is not leader]
            until(
                lambda: any(
                    (each.streams()[QUEUE]["cluster"].get("leader") or leader.name) != leader.name for each in others
                ),
                "another leads",
            )
        finally:
            leader.resume()
        own_cluster.ready()

    await under_load(at(own_cluster), lambda: asyncio.to_thread(pause))


async def test_load_survives_a_leader_in_lame_duck_mode(own_cluster):
    def retire() -> None:
        leader = own_cluster.leader(QUEUE)
        leader.signal(signal.SIGUSR2)
        leader.process.wait(BOUND)
        leader.start()
        own_cluster.ready()

    await under_load(at(own_cluster), lambda: asyncio.to_thread(retire))


async def test_load_survives_a_rolling_restart(own_cluster):
    def roll() -> None:
        for server in own_cluster.servers:
            server.stop()
            server.start()
            own_cluster.ready()

    await under_load(at(own_cluster), lambda: asyncio.to_thread(roll))


async def test_load_survives_the_death_of_all_servers(own_cluster):
    def outage() -> None:
        own_cluster.stop()
        own_cluster.start()

    await under_load(at(own_cluster), lambda: asyncio.to_thread(outage))


async def test_load_survives_leaders_that_step_down(own_cluster):
    def step_down() -> None:
        first = own_cluster.servers[0]
        for _ in range(3):
            for name, stream in first.streams().items():
                until(lambda name=name: first.do(f"STREAM.LEADER.STEPDOWN.{name}"), "it steps down")
                own_cluster.leader(name)
                for consumer in stream.get("consumer_detail") or ():
                    place = f"{name}.{consumer['name']}"
                    until(lambda place=place: first.do(f"CONSUMER.LEADER.STEPDOWN.{place}"), "it steps down")
        own_cluster.ready()

    await under_load(at(own_cluster), lambda: asyncio.to_thread(step_down))


async def test_load_survives_repeated_cuts(own_cluster):
    async with (
        relayed(Bytes(own_cluster.servers[0].port, scheme="nats")) as one,
        relayed(Bytes(own_cluster.servers[1].port, scheme="nats")) as other,
    ):

        async def cut() -> None:
            for _ in range(20):
                await asyncio.sleep(0.1)  # the moment of the fault, not a synchronisation
                one.cut()
                other.cut()

        await under_load(f"nats://{one.place},{other.place}?{OPTIONS}", cut)


async def test_operations_raise_without_a_majority_and_recover_with_one(own_cluster):
    url = f"{own_cluster.url}?replicas=3"
    # Here the new streams, also the counters', have time to elect leaders. Below, it is 1 s.
    async with brrr.open_backend(url) as backend:
        await backend.queue.put("jobs", [b"before"])
    await asyncio.to_thread(own_cluster.ready)
    async with brrr.open_backend(f"{url}&retry_for=1s&timeout=1s") as backend:
        for server in own_cluster.servers[:2]:
            server.kill()
        with pytest.raises(BackendUnavailableError):
            async with asyncio.timeout(30):
                await backend.queue.put("jobs", [b"meanwhile"])
        for server in own_cluster.servers[:2]:
            await asyncio.to_thread(server.start)
        await asyncio.to_thread(own_cluster.ready)
        seen: set[bytes] = set()
        async with asyncio.timeout(60):
            while b"before" not in seen:
                try:
                    found = await backend.queue.receive("jobs", limit=10, wait=1)
                    await backend.queue.ack(found)
                except BackendUnavailableError:
                    continue
                seen.update(each.body for each in found)
