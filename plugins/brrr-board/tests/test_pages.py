"""The pages and their figures, without a browser."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Sequence
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest

import brrr_board.sampling
import brrr_core as brrr
from brrr_board import Board
from brrr_board.rendering import sparkline
from brrr_core.backend import Key, Queue, QueueStats
from brrr_core.errors import BackendUnavailableError
from brrr_testkit.servers.redis import Server
from brrr_testkit.workloads.fleet import Fleet

from .conftest import TOPIC, Bank, visitor


class CountingQueue:
    """Counts the statistics that are read of a queue, and how many at the same time. `down` makes them fail."""

    def __init__(self, queue: Queue) -> None:
        self.reads: Counter[str] = Counter()
        self.most = 0
        self.down = False
        self._now = 0
        self._stats = queue.stats
        queue.stats = self.stats  # type: ignore[method-assign] # the test counts

    async def stats(self, topic: str) -> QueueStats:
        self.reads[topic] += 1
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            if self.down:
                raise BackendUnavailableError("the queue is down", remedy="Wait.")
            await asyncio.sleep(0)
            return await self._stats(topic)
        finally:
            self._now -= 1


@pytest.fixture
def one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next round of samples begin after the test."""
    monkeypatch.setattr(brrr_board.sampling, "INTERVAL_SECONDS", 3600.0)


@pytest.mark.usefixtures("one_round")
async def test_redis_gets_one_request_for_each_topic_for_all_visitors(redis_server: Server) -> None:
    topics = [f"topic-{number:04}" for number in range(1_000)]
    async with (
        brrr.connect(redis_server.url) as connection,
        Board(connection, topics=topics) as board,
        visitor(board) as client,
    ):
        await client.get("/")  # from here on, the server knows the script
        before = redis_server.do("INFO", "commandstats")
        await board._sampler.refresh()
        pages = [(await client.get("/")).text for _ in range(3)]
        after = redis_server.do("INFO", "commandstats")

    assert [page.count("<tr id=") for page in pages] == [1_000] * 3
    assert after["cmdstat_evalsha"]["calls"] - before["cmdstat_evalsha"]["calls"] == 1_000


@pytest.mark.usefixtures("one_round")
async def test_statistics_of_a_thousand_topics_are_read_once_for_all_visitors() -> None:
    topics = [f"topic-{number:04}" for number in range(1_000)]
    async with brrr.connect(f"memory:{uuid4()}") as connection:
        queue = CountingQueue(connection.queue)
        async with Board(connection, topics=topics) as board, visitor(board) as client:
            pages = [(await client.get("/")).text for _ in range(5)]

    assert [page.count("<tr id=") for page in pages] == [1_000] * 5
    assert queue.reads == Counter(topics)
    assert queue.most == 16


async def test_further_topics_are_counted_and_found_by_a_filter() -> None:
    topics = [f"topic-{number:04}" for number in range(1_002)]
    async with (
        brrr.connect(f"memory:{uuid4()}") as connection,
        Board(connection, topics=topics) as board,
        visitor(board) as client,
    ):
        whole, filtered = (await client.get("/")).text, (await client.get("/?q=1001")).text

    assert "2 more are not shown" in whole
    assert re.findall(r">(topic-\d+)<", filtered) == ["topic-1001"]


async def test_queue_that_does_not_answer_is_reported_and_recovers() -> None:
    async with brrr.connect(f"memory:{uuid4()}") as connection:
        queue = CountingQueue(connection.queue)
        async with Board(connection, topics=["a"]) as board, visitor(board) as client:
            await client.get("/")
            queue.down = True
            await board._sampler.refresh()
            failing = (await client.get("/")).text
            queue.down = False
            await board._sampler.refresh()
            healthy = (await client.get("/")).text

    assert "the queue is down" in failing
    assert failing.count("<tr id=") == 1  # the last figures
    assert "the queue is down" not in healthy


async def test_topics_of_the_queue_are_listed_and_stay_when_they_are_empty() -> None:
    async with brrr.connect(f"memory:{uuid4()}") as connection:
        await connection.queue.put("busy", [b"x"])
        async with Board(connection, topics=["given"]) as board, visitor(board) as client:
            first = (await client.get("/")).text
            await connection.queue.ack(await connection.queue.receive("busy", limit=1, wait=0))
            for _ in range(5):  # the topics are listed again
                await board._sampler.refresh()
            second = (await client.get("/")).text

    assert [re.findall(r">(busy|given)<", page) for page in (first, second)] == [["busy", "given"]] * 2


async def test_given_topics_are_shown_if_the_queue_cannot_list_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async with brrr.connect(f"memory:{uuid4()}") as connection:
        denied = BackendUnavailableError("no permission to list", remedy="Grant it.")
        monkeypatch.setattr(connection.queue.inspector, "topics", AsyncMock(side_effect=denied))
        async with Board(connection, topics=["given"]) as board, visitor(board) as client:
            page = (await client.get("/")).text

    assert "no permission to list" in page
    assert page.count("<tr id=") == 1


async def test_refresh_waits_for_a_round_that_begins_later() -> None:
    async with brrr.connect(f"memory:{uuid4()}") as connection:
        queue = CountingQueue(connection.queue)
        async with Board(connection, topics=["a"]) as board:
            await board._sampler.after(0)
            before = queue.reads["a"]
            await board._sampler.refresh()

    assert queue.reads["a"] == before + 1


async def test_page_of_a_call_shows_state_arguments_result_and_graph(fleet: Fleet, bank: Bank) -> None:
    async with Board(fleet.connection, handlers=bank.handlers(), topics=[TOPIC]) as board, visitor(board) as client:
        pages = [
            (await client.get(f"/search?task={task}&arguments=7", follow_redirects=True)).text
            for task in ("order", "reserve")
        ]

    assert "dead-lettered" in pages[0]
    assert "the bank is closed" in pages[0]
    assert pages[0].count('class="row"') == 3
    assert "reserved 7" in pages[1]


async def test_time_out_of_range_is_shown_as_a_number(fleet: Fleet) -> None:
    """Another program may write milliseconds, or any integer."""
    call_hash = (await fleet.app.schedule("unserved", topic="elsewhere")()).call_hash
    async with Board(fleet.connection) as board, visitor(board) as client:
        for at, shown in ((1_700_000_000_000, 1), (-(10**18), 2)):  # the graph knows the year 55840
            record = b"d7:returnsle12:scheduled_ati%dee" % at
            await fleet.connection._operations.write([(Key("pending_returns", call_hash), record)])
            board._views.forget()
            page = await client.get("/call", params={"hash": call_hash})

            assert page.status_code == 200
            assert page.text.count(f"unix time {at}") == shown


async def test_call_without_handlers_shows_its_own_records(fleet: Fleet) -> None:
    async with Board(fleet.connection, topics=[TOPIC]) as board, visitor(board) as client:
        page = (await client.get("/search?task=order&arguments=7", follow_redirects=True)).text

    assert page.count('class="row"') == 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [("task=order&arguments=7,", 400), ("task=order&keywords=[]", 400), ("task=order&arguments=1,2,3", 400), ("", 200)],
)
async def test_invalid_search_shows_an_error_page(fleet: Fleet, bank: Bank, query: str, expected: int) -> None:
    async with Board(fleet.connection, handlers=bank.handlers()) as board, visitor(board) as client:
        answer = await client.get(f"/search?{query}")

    assert answer.status_code == expected


async def test_keyword_arguments_name_the_same_call(fleet: Fleet, bank: Bank) -> None:
    async with Board(fleet.connection, handlers=bank.handlers()) as board, visitor(board) as client:
        places = [
            (await client.get("/search", params={"task": "order", **given})).headers["location"]
            for given in ({"arguments": "7"}, {"keywords": json.dumps({"number": 7})})
        ]

    assert places[0] == places[1]


async def test_dead_letters_are_filtered(fleet: Fleet) -> None:
    async with Board(fleet.connection, topics=[TOPIC]) as board, visitor(board) as client:
        pages = [
            (await client.get(f"/topic?name={TOPIC}{query}")).text
            for query in ("", "&task=charge", "&task=order", "&reason=bank", "&reason=shop")
        ]

    assert [page.count('<tr id="letter-') for page in pages] == [1, 1, 0, 1, 0]


async def test_topic_that_is_not_listed_is_marked(fleet: Fleet) -> None:
    async with Board(fleet.connection, topics=[TOPIC]) as board, visitor(board) as client:
        pages = [(await client.get(f"/topic?name={name}")).text for name in (TOPIC, "misspelt")]

    assert ["not among those" in page for page in pages] == [False, True]


@pytest.mark.parametrize(
    ("values", "points"),
    [
        ([], "0,23 120,23"),
        ([0, 0, 0], "0,23 120,23"),
        ([5, 5], "0,1 120,1"),
        ([0, 10, 5], "0,23 60,1 120,12"),
    ],
)
def test_sparkline_scales_to_its_greatest_value(values: Sequence[int], points: str) -> None:
    assert sparkline(values) == points
