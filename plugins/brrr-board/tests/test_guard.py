"""The board refuses foreign pages and other machines, unless its options allow them, and shows no secret."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

import brrr_core as brrr
from brrr_board import Board
from brrr_board.guard import is_loopback
from brrr_board.guard import token_of as token_for
from brrr_testkit.workloads.fleet import QUICK, Fleet, serving

from .conftest import TOPIC, visitor

REDRIVE = {"topic": TOPIC, "redrive-all": "yes"}


@pytest.fixture
async def board(fleet: Fleet) -> AsyncIterator[Board]:
    async with Board(fleet.connection, topics=[TOPIC], allow_changes=True) as opened:
        yield opened


async def token_of(client: httpx.AsyncClient) -> str:
    found = re.search(r'name="token" value="(\w+)"', (await client.get(f"/topic?name={TOPIC}")).text)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "[::1"])
async def test_unknown_host_name_is_refused(board: Board, host: str) -> None:
    async with visitor(board) as client:
        assert (await client.get("/", headers={"host": host})).status_code == 403


@pytest.mark.parametrize("host", ["localhost:8090", "127.0.0.1", "[::1]:80", "LOCALHOST"])
async def test_names_of_this_machine_are_accepted(board: Board, host: str) -> None:
    async with visitor(board) as client:
        assert (await client.get("/", headers={"host": host})).status_code == 200


async def test_other_machine_is_refused_unless_a_host_name_is_allowed(fleet: Fleet) -> None:
    statuses: list[int] = []
    for hosts in ([], ["127.0.0.1"], ["ops.example"]):
        async with Board(fleet.connection, hosts=hosts) as board, visitor(board, address="10.0.0.9") as client:
            statuses += [
                (await client.get("/", headers={"host": host})).status_code for host in ("localhost", "ops.example")
            ]

    assert statuses == [403, 403, 403, 403, 200, 200]


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.5", True), ("::1", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", False), ("::", False), ("a", False)],
)
def test_loopback_addresses_are_recognized(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


async def test_page_of_another_site_is_refused(board: Board) -> None:
    async with visitor(board) as client:
        for origin in ("http://evil.example", "null", "http://localhost:9999", "ftp://localhost:8090"):
            assert (await client.get("/", headers={"origin": origin})).status_code == 403


async def test_form_needs_token_cookie_and_origin(board: Board, fleet: Fleet) -> None:
    origin = {"origin": "http://localhost:8090"}
    async with visitor(board) as client, visitor(board) as other:
        token, foreign = await token_of(client), await token_of(other)
        refused = [
            await client.post("/act", data=REDRIVE, headers=origin),
            await client.post("/act", data={**REDRIVE, "token": foreign}, headers=origin),
            await client.post("/act", data={**REDRIVE, "token": token}),
        ]
        client.cookies.clear()
        refused.append(await client.post("/act", data={**REDRIVE, "token": token}, headers=origin))
        assert [answer.status_code for answer in refused] == [403] * 4
        assert (await fleet.stats()).dead == 1

        answer = await other.post("/act", data={**REDRIVE, "token": foreign}, headers=origin)

    assert (answer.status_code, answer.headers["location"]) == (303, f"topic?name={TOPIC}&did=all-redriven")


async def test_cookie_is_strict_and_hidden_from_scripts(board: Board) -> None:
    async with visitor(board) as client:
        cookie = (await client.get("/")).headers["set-cookie"]
        second = await client.get("/")

    assert "SameSite=strict" in cookie
    assert "HttpOnly" in cookie
    assert "set-cookie" not in second.headers


async def test_read_only_board_refuses_forms_and_sets_no_cookie(fleet: Fleet) -> None:
    forged = {**REDRIVE, "token": token_for("chosen by the visitor")}
    async with Board(fleet.connection, topics=[TOPIC]) as board, visitor(board) as client:
        page = await client.get(f"/topic?name={TOPIC}")
        client.cookies.set("brrr-board", "chosen by the visitor")
        answer = await client.post("/act", data=forged, headers={"origin": "http://localhost:8090"})

    assert (answer.status_code, "set-cookie" in page.headers, 'name="token"' in page.text) == (403, False, False)
    assert (await fleet.stats()).dead == 1


async def test_get_changes_nothing(board: Board, fleet: Fleet) -> None:
    async with visitor(board) as client:
        answer = await client.get("/act", params={**REDRIVE, "token": await token_of(client)})
        others = [await client.request("CONNECT", f"/{place}") for place in ("", "call", "events/topics")]

    assert {each.status_code for each in (answer, *others)} == {405}
    assert (await fleet.stats()).dead == 1


async def test_long_form_is_refused(board: Board) -> None:
    async with visitor(board) as client:
        answer = await client.post("/act", content=b"x" * (256 * 1024 + 1), headers={"origin": "http://localhost:8090"})

    assert answer.status_code == 413


async def test_every_answer_forbids_frames_and_foreign_scripts(board: Board) -> None:
    async with visitor(board) as client:
        answers = [await client.get(place) for place in ("/", "/call?hash=x", "/topic", "/board.js", "/missing")]
        answers.append(await client.get("/", headers={"host": "evil.example"}))

    policies = [answer.headers["content-security-policy"] for answer in answers]
    assert all("default-src 'none'" in policy and "frame-ancestors 'none'" in policy for policy in policies)
    assert all("unsafe" not in policy for policy in policies)
    assert len(set(policies)) == len(policies)  # no nonce is used twice
    assert {answer.headers["x-frame-options"] for answer in answers} == {"DENY"}


async def test_board_that_was_not_entered_raises(fleet: Fleet) -> None:
    async with visitor(Board(fleet.connection)) as client:
        with pytest.raises(RuntimeError, match="async with"):
            await client.get("/")


async def test_secrets_are_masked_everywhere() -> None:
    """Arguments, reasons and results that contain a secret of the backends' URLs."""
    secret = "hunter2-and-more"

    @brrr.handler_no_arg
    async def leaks(text: str) -> str:
        if "fails" in text:
            raise ValueError(text)
        return text

    handlers = {"leaks": leaks}
    async with serving(f"memory:{uuid4()}", handlers, policy=replace(QUICK, max_attempts=1), topics=[TOPIC]) as fleet:
        texts = [f"fails {secret}", f"works {secret}"]
        hashes = [(await fleet.app.schedule("leaks", topic=TOPIC)(text)).call_hash for text in texts]
        await fleet.dead(1)
        await fleet.idle()
        (letter,) = await fleet.app.dead_letters(TOPIC).read()
        assert secret in letter.reason
        fleet.connection.mask = lambda text: text.replace(secret, "****")
        board = Board(fleet.connection, handlers=handlers, topics=[TOPIC], allow_changes=True)
        async with board, visitor(board) as client:
            places = [f"/topic?name={TOPIC}", f"/letter?topic={TOPIC}&id={quote(letter.id or '')}"]
            places += [f"/call?hash={each}" for each in hashes]
            pages = [(await client.get(place)).text for place in places]

    assert [(secret in page, "****" in page) for page in pages] == [(False, True)] * 4
