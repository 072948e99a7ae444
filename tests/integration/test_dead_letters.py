"""A client chooses dead letters by task, call, reason, age and id, and redrives, drops or completes those."""

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.backend import Key, Queue
from brrr_core.engine import letters
from brrr_core.errors import ArgumentError, BackendError, CapabilityError, EncodeError
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, serving

ONCE = replace(QUICK, max_attempts=1)
FAILING = replace(ONCE, on_exhausted="fail")
GARBAGE = b"\xff\x00 no message"


@brrr.handler_no_arg
async def leaf(n: int) -> int:
    raise ValueError(f"no {n} today")


@brrr.handler
async def top(app: brrr.ActiveWorker, n: int) -> int:
    return await app.call(leaf)(n) + 1


@brrr.handler_no_arg
async def other(n: int) -> str:
    raise KeyError(n)


HANDLERS: dict[str, brrr.Task] = {"leaf": leaf, "top": top, "other": other}


async def bury(queue: Queue, bodies: Sequence[bytes], reason: str) -> None:
    await queue.put(TOPIC, bodies)
    for delivery in await queue.receive(TOPIC, limit=len(bodies), wait=0):
        await queue.bury(delivery, reason)


@asynccontextmanager
async def buried(url: str) -> AsyncGenerator[brrr.AppConsumer, None]:
    """Dead-letter five calls of three tasks, and one body that is not a message, the oldest. Yield a client."""
    async with brrr.connect(url) as connection:
        client = brrr.AppConsumer(codec="json", connection=connection, handlers=HANDLERS)
        # First: a message that is put beside workers which stop may be leased to one of them.
        await bury(connection.queue, [GARBAGE], "cannot be read")
        async with serving(url, HANDLERS, policy=ONCE) as fleet:
            for n in range(3):
                await fleet.app.schedule(top, topic=TOPIC)(n)
            for n in range(2):
                await fleet.app.schedule(other, topic=TOPIC)(n)
            await fleet.dead(6)
            await fleet.idle()
        yield client


async def left(client: brrr.AppConsumer) -> list[str]:
    """Return the first lines of the reasons of all dead letters."""
    return sorted([letter.reason.partition("\n")[0] async for letter in client.dead_letters(TOPIC)])


async def test_dead_letters_are_chosen_by_task_call_reason_age_and_id(url: str) -> None:
    async with buried(url) as client:
        found = await client.dead_letters(TOPIC).read()
        assert [letter.task_name for letter in found].count("leaf") == 3
        assert found[0] == brrr.Letter(
            found[0].id, TOPIC, GARBAGE, "cannot be read", 1, found[0].buried_at, None, None, None, None
        )
        (one,) = await client.dead_letters(TOPIC, task=leaf, reason="no 1 today").read()
        assert (one.task_name, one.payload) == ("leaf", b"[1]")
        assert one.call_hash is not None
        assert one.id is not None
        assert await client.dead_letters(TOPIC, call_hash=one.call_hash).read() == [one]
        assert await client.dead_letters(TOPIC, ids=[one.id, "7", "", "-", "x"]).read() == [one]
        assert await client.dead_letters(TOPIC, ids=[one.id], task="other").read() == []
        assert await client.dead_letters(TOPIC, limit=4).read() == found[:4]
        assert await client.dead_letters(TOPIC, older_than="1h").read() == []
        assert await client.dead_letters(TOPIC, newer_than="1h").read() == found
        assert await client.dead_letters(TOPIC, newer_than=0).read() == []
        assert await client.dead_letters("empty").read() == []
        assert await client.dead_letters("empty", ids=[one.id]).read() == []
        with pytest.raises(ArgumentError, match="newer_than"):
            client.dead_letters(TOPIC, newer_than="soon")
        with pytest.raises(ArgumentError):
            client.dead_letters(TOPIC, limit=0)


async def test_only_chosen_dead_letters_are_redriven_and_dropped(url: str) -> None:
    async with buried(url) as client:
        assert await client.dead_letters(TOPIC, task="leaf", limit=2).redrive() == 2
        assert await client.dead_letters(TOPIC, task=other).drop() == 2
        garbage = await client.dead_letters(TOPIC, reason="cannot").read()
        assert await client.dead_letters(TOPIC, ids=[each.id or "" for each in garbage]).drop() == 1
        assert await left(client) == ["ValueError: no 2 today"]
        assert await client.dead_letters(TOPIC, ids=[each.id or "" for each in garbage]).redrive() == 0
        assert await client.dead_letters(TOPIC).redrive() == 1


async def test_dead_letters_of_failed_calls_run_again(url: str) -> None:
    runs: list[int] = []

    @brrr.handler_no_arg
    async def task(n: int) -> int:
        runs.append(n)
        if len(runs) < 3:
            raise ValueError(n)
        return n

    async with serving(url, {"task": task}, policy=FAILING) as fleet:
        for n in range(2):
            await fleet.app.schedule(task, topic=TOPIC)(n)
        await fleet.dead(2)
        (one,) = await fleet.app.dead_letters(TOPIC, reason="ValueError: 1").read()
        assert await fleet.app.dead_letters(TOPIC, call_hash=one.call_hash).redrive(failed=True) == 1
        assert await fleet.app.result(task, timeout=BOUND)(1) == 1
        assert (await fleet.app.status(task)(0)).state == "failed"
        assert len(runs) == 3


@pytest.mark.parametrize(("choice", "act"), [({"limit": 1}, "redrive"), ({"reason": "ValueError: 0"}, "drop")])
async def test_failed_call_runs_again_although_another_operator_takes_its_dead_letter(
    url: str, monkeypatch: pytest.MonkeyPatch, choice: dict[str, Any], act: str
) -> None:
    runs: list[int] = []

    @brrr.handler_no_arg
    async def task(n: int) -> int:
        runs.append(n)
        if runs.count(n) < 2:
            raise ValueError(n)
        return n

    async with serving(url, {"task": task}, policy=FAILING) as fleet:
        for n in range(2):
            await fleet.app.schedule(task, topic=TOPIC)(n)
            await fleet.dead(n + 1)
        retrier = fleet.connection._retrier
        take_back = retrier._take_back

        async def take_back_late(call_hashes: Sequence[str], topic: str) -> Any:
            """Take failures back, after another operator has taken the oldest dead letter."""
            monkeypatch.undo()
            assert await getattr(fleet.app.dead_letters(TOPIC, limit=1), act)() == 1
            await fleet.idle()
            return await take_back(call_hashes, topic)

        monkeypatch.setattr(retrier, "_take_back", take_back_late)
        assert await fleet.app.dead_letters(TOPIC, **choice).redrive(failed=True) == 1
        assert await fleet.app.result(task, timeout=BOUND)(0) == 0
        assert (await fleet.stats()).dead == 1
        assert (await fleet.app.status(task)(1)).state == "failed"


async def test_calls_of_chosen_dead_letters_are_completed_by_hand(url: str) -> None:
    async with buried(url) as client, serving(url, HANDLERS, policy=ONCE) as fleet:
        with pytest.raises(EncodeError):
            await client.dead_letters(TOPIC, task=leaf).complete("not a number")
        assert await client.dead_letters(TOPIC, reason="today", limit=2).complete(10) == (2, 0)
        assert await client.dead_letters(TOPIC, task=leaf).fail("given up by hand") == (1, 0)
        assert [await fleet.app.result(top, timeout=BOUND)(n) for n in range(2)] == [11, 11]
        with pytest.raises(brrr.CallFailedError, match="given up by hand"):
            await fleet.app.result(top, timeout=BOUND)(2)
        assert await client.dead_letters(TOPIC, reason="cannot be read").complete(1) == (0, 1)
        assert len(await left(client)) == 3


async def test_completion_that_dies_before_it_drops_is_completed_by_repeating_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with buried(url) as client:
        box = client._connection.queue.letters
        assert box is not None
        with monkeypatch.context() as patch:

            async def broken(topic: str, ids: Sequence[str]) -> int:
                raise BackendError("gone", remedy="")

            patch.setattr(box, "drop", broken)
            with pytest.raises(BackendError, match="gone"):
                await client.dead_letters(TOPIC, task=leaf).complete(5)
        assert await client.read(leaf)(2) == 5
        assert await client.dead_letters(TOPIC, task=leaf).complete(6) == (3, 0)
        assert await client.read(leaf)(2) == 5
        assert await client.dead_letters(TOPIC, task=leaf).read() == []


async def test_calls_are_completed_together_and_one_that_cannot_be_keeps_its_dead_letter(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with buried(memory) as client, asyncio.timeout(BOUND):
        hashes = [letter.call_hash or "" async for letter in client.dead_letters(TOPIC, task=leaf)]
        key = Key("pending_returns", hashes[0])
        (record,) = await client._connection.read([key])
        await client._connection._operations.write([(key, b"garbage")])
        settle, all_there = client._connection.settle, asyncio.Barrier(3)

        async def together(call_hash: str, payload: bytes) -> bool:
            await all_there.wait()
            if call_hash == hashes[1]:
                raise BackendError("gone", remedy="")
            return await settle(call_hash, payload)

        monkeypatch.setattr(client._connection, "settle", together)
        with pytest.raises(BackendError, match="gone"):
            await client.dead_letters(TOPIC, task=leaf).complete(5)
        assert [letter.call_hash async for letter in client.dead_letters(TOPIC, task=leaf)] == hashes[:2]
        monkeypatch.undo()
        assert await client.dead_letters(TOPIC, task=leaf).complete(5) == (1, 1)
        await client._connection._operations.write([(key, record or b"")])
        assert await client.dead_letters(TOPIC, task=leaf).complete(5) == (1, 0)


async def test_dead_letter_of_a_failed_call_stays_when_it_is_completed(url: str) -> None:
    async with serving(url, HANDLERS, policy=FAILING) as fleet:
        await fleet.app.schedule(leaf, topic=TOPIC)(1)
        await fleet.dead(1)
        assert await fleet.app.dead_letters(TOPIC).complete(5) == (0, 1)
        assert len(await left(fleet.app)) == 1


async def test_search_reads_page_by_page_and_ends_although_letters_come_back(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "PAGE", 10)
    async with brrr.connect(url) as connection:
        client = brrr.AppConsumer(codec="json", connection=connection)
        queue, box = connection.queue, connection.queue.letters
        assert box is not None
        await bury(queue, [b"%d" % n for n in range(95)], "first")
        assert len(await client.dead_letters(TOPIC, limit=25).read()) == 25
        again, pages = type(box).redrive, 0

        async def redrive(topic: str, ids: Sequence[str]) -> int:
            """Redrive, and dead-letter the messages at once, as a worker would whose code is not mended."""
            nonlocal pages
            pages += 1
            count = await again(box, topic, ids)
            for delivery in await queue.receive(topic, limit=count, wait=0):
                await queue.bury(delivery, "first again")
            return count

        monkeypatch.setattr(box, "redrive", redrive)
        assert await client.dead_letters(TOPIC, reason="first").redrive() == 95
        assert pages == math.ceil(95 / 10)
        assert [letter.reason for letter in await client.dead_letters(TOPIC).read()] == ["first again"] * 95


async def test_queue_without_ids_shows_its_dead_letters_and_acts_on_all_of_them(memory: str) -> None:
    async with buried(memory) as client:
        client._connection.queue.letters = None
        assert [each.reason for each in await client.dead_letters(TOPIC, reason="cannot").read()] == ["cannot be read"]
        for act in (client.dead_letters(TOPIC, reason="cannot").drop, client.dead_letters(TOPIC, ids=["1"]).read):
            with pytest.raises(CapabilityError, match="apart"):
                await act()
        assert await client.dead_letters(TOPIC, limit=4).redrive() == 4
        assert await client.dead_letters(TOPIC).drop() == 2


def test_synchronous_client_chooses_dead_letters(tmp_path: Path) -> None:
    with brrr.sync.connect(f"sqlite:///{tmp_path}/brrr.db") as client:
        assert client.dead_letters(TOPIC, task="leaf", older_than="1h").read() == []
        assert client.dead_letters(TOPIC).drop() == 0
        assert client.dead_letters(TOPIC, call_hash="x").complete(1) == (0, 0)
