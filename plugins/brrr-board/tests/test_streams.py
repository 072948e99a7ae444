"""The streams of open pages: bounded, ended with the board, and without repetitions."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import Mock

import httpx
import pytest

import brrr_board.streams
from brrr_board import Board
from brrr_core.errors import BackendUnavailableError
from brrr_testkit.waiting import until
from brrr_testkit.workloads.fleet import Fleet

from .conftest import TOPIC, Site, visitor


@pytest.fixture
async def board(fleet: Fleet) -> Board:
    return Board(fleet.connection, topics=[TOPIC], allow_changes=True)


async def news(lines: AsyncIterator[str]) -> Any:
    """Return the next message of a stream."""
    async for line in lines:
        if line.startswith("data: "):
            return json.loads(line.removeprefix("data: "))
    raise AssertionError("the stream ended")


def events_of(page: str) -> str:
    found = re.search(r'data-events="([^"]+)"', page)
    assert found is not None
    return found[1].replace("&amp;", "&")


async def test_stream_sends_only_what_has_changed_since_the_page(board: Board, fleet: Fleet, site: Site) -> None:
    async with site(board) as address, httpx.AsyncClient(base_url=address, timeout=30) as client:
        page = (await client.get(f"topic?name={TOPIC}")).text
        async with client.stream("GET", events_of(page)) as stream:
            lines = stream.aiter_lines()
            await fleet.app.schedule("charge", topic=TOPIC)(8)
            first = await news(lines)
            while not first["order"]:
                first = await news(lines)

    assert len(first["order"]) == 2
    assert set(first["parts"]) <= {"summary", first["order"][1]}  # and not the first letter


async def test_stream_with_an_unknown_mark_sends_everything(board: Board, site: Site) -> None:
    async with (
        site(board) as address,
        httpx.AsyncClient(base_url=address, timeout=30) as client,
        client.stream("GET", f"events/topic?name={TOPIC}&since=other-9") as stream,
    ):
        everything = await news(stream.aiter_lines())

    assert set(everything["parts"]) == {"summary", *everything["order"]}


async def test_streams_are_bounded_and_counted_down(board: Board, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brrr_board.streams, "MAX_STREAMS", 2)
    monkeypatch.setattr(brrr_board.streams, "STREAM_SECONDS", 3600)
    place = f"events/topic?name={TOPIC}"
    async with site(board) as address, httpx.AsyncClient(base_url=address, timeout=30) as client:
        async with client.stream("GET", place) as first, client.stream("GET", place) as second:
            await news(first.aiter_lines())
            await news(second.aiter_lines())
            refused = await client.get(place)
            assert board._streams.open == 2

        await until(lambda: board._streams.open == 0, "the streams of visitors that left have ended")

    assert refused.status_code == 503


async def test_stop_ends_open_streams(board: Board, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brrr_board.streams, "STREAM_SECONDS", 3600)
    async with site(board) as address, httpx.AsyncClient(base_url=address, timeout=30) as client:
        async with client.stream("GET", f"events/topic?name={TOPIC}") as stream:
            lines = stream.aiter_lines()
            await news(lines)
            board.stop()
            rest = [line async for line in lines]
        again = await client.get(f"events/topic?name={TOPIC}")

    assert rest in ([], [""])
    assert again.status_code == 503


async def test_stream_ends_after_its_lifetime(board: Board, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brrr_board.streams, "STREAM_SECONDS", 0.2)
    async with site(board) as address, httpx.AsyncClient(base_url=address, timeout=30) as client:
        answer = await client.get(f"events/topic?name={TOPIC}")

    assert answer.headers["content-type"] == "text/event-stream"
    assert board._streams.open == 0


async def test_no_task_is_left_behind(board: Board, site: Site) -> None:
    before = asyncio.all_tasks()
    async with (
        site(board) as address,
        httpx.AsyncClient(base_url=address, timeout=30) as client,
        client.stream("GET", "events/topics") as stream,
    ):
        await news(stream.aiter_lines())

    assert asyncio.all_tasks() <= before


async def test_failure_and_its_end_reach_the_page(fleet: Fleet, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(fleet.connection)
    lost = BackendUnavailableError("the queue is down", remedy="Wait.")
    stats = fleet.connection.queue.stats
    answers = [stats, Mock(side_effect=lost)]
    monkeypatch.setattr(fleet.connection.queue, "stats", lambda topic: answers[0](topic))  # noqa: PLW0108 - `answers` changes
    async with (
        site(board) as address,
        httpx.AsyncClient(base_url=address, timeout=30) as client,
        client.stream("GET", "events/topic?name=shop") as stream,
    ):
        lines = stream.aiter_lines()
        await news(lines)
        answers.reverse()
        board._views.forget()
        failure = await news(lines)
        answers.reverse()
        board._views.forget()
        assert await news(lines) == {"parts": {}, "order": None}

    assert "the queue is down" in failure


async def test_request_that_waits_for_a_sample_ends_with_the_board(fleet: Fleet) -> None:
    board = Board(fleet.connection, topics=[TOPIC])
    never = asyncio.Event()

    async def no_answer(topic: str) -> Any:
        del topic
        await never.wait()

    fleet.connection.queue.stats = no_answer  # type: ignore[method-assign] # the queue hangs
    try:
        async with visitor(board) as client:
            async with board:
                waiting = asyncio.create_task(client.get("/"))
                await asyncio.sleep(0)
            answer = await waiting
    finally:
        del fleet.connection.queue.stats

    assert answer.status_code == 503
