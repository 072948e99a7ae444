"""The board in a real browser: an operator looks, clicks, and sees the change."""

from contextlib import AsyncExitStack
from typing import Any

import pytest

import brrr_board.streams
from brrr_board import Board
from brrr_testkit.browser import Page, open_page
from brrr_testkit.waiting import until
from brrr_testkit.workloads.fleet import Fleet

from .conftest import MARKUP, TOPIC, Bank, Site

pytestmark = pytest.mark.exhaustive

ROWS = "document.querySelectorAll('tbody tr').length"
SUMMARY = "document.querySelector('#summary').textContent"
GROUPS = "[...document.querySelectorAll('#graph g.row')].filter((row) => !row.hasAttribute('display')).length"


@pytest.fixture
async def board(fleet: Fleet, bank: Bank) -> Board:
    """A board on which changes are allowed."""
    return Board(fleet.connection, handlers=bank.handlers(), topics=[TOPIC, MARKUP], allow_changes=True)


@pytest.fixture
async def opened(board: Board, site: Site) -> Any:
    """A page, and the address of the board."""
    async with AsyncExitStack() as stack:
        page = await stack.enter_async_context(open_page())
        address = await stack.enter_async_context(site(board))
        yield page, address
        assert page.errors == []


async def test_redriven_letter_leaves_the_page_and_its_call_is_done(
    opened: tuple[Page, str], fleet: Fleet, bank: Bank
) -> None:
    page, address = opened
    await page.open(address)
    await page.click("#summary a", loads=True)
    assert await page.evaluate(ROWS) == 1
    bank.closed = False

    await page.click("button[name=redrive]", loads=True)

    assert await page.wait_until(f"{ROWS} === 0")
    assert "put back" in await page.evaluate("document.querySelector('.did').textContent")
    assert await fleet.app.result("order", timeout=30)(7) == ["reserved 7", 700]


async def test_dropped_letter_leaves_the_page(opened: tuple[Page, str], fleet: Fleet) -> None:
    page, address = opened
    await page.open(f"{address}topic?name={TOPIC}")
    await page.click("tbody td:nth-child(5) a", loads=True)
    assert MARKUP in await page.evaluate("document.querySelector('pre').textContent")

    await page.click("button[name=drop]", loads=True)

    assert await page.evaluate(ROWS) == 0
    assert (await fleet.stats()).dead == 0


async def test_completed_call_wakes_its_caller(opened: tuple[Page, str], fleet: Fleet) -> None:
    page, address = opened
    await page.open(f"{address}topic?name={TOPIC}")
    await page.click("tbody td:nth-child(5) a", loads=True)
    await page.write("input[name=result]", "12")

    await page.click("button[name=complete]", loads=True)

    assert await page.evaluate(ROWS) == 0
    assert await fleet.app.result("order", timeout=30)(7) == ["reserved 7", 12]


async def test_open_pages_follow_without_a_reload(opened: tuple[Page, str], fleet: Fleet) -> None:
    page, address = opened
    await page.open(f"{address}topic?name={TOPIC}")
    await page.evaluate("window.same = true")
    await page.wait_until("document.getElementById('state').textContent === 'live'")

    await fleet.app.schedule("order", topic=TOPIC)(8)
    await page.wait_until(f"{ROWS} === 2 && {SUMMARY}.includes('2 dead')")
    await fleet.app.dead_letters(TOPIC).drop()

    assert await page.wait_until(f"{ROWS} === 0 && {SUMMARY}.includes(' 0 dead')")
    assert await page.evaluate("window.same")


async def test_page_without_a_free_stream_tries_again(
    opened: tuple[Page, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page, address = opened
    monkeypatch.setattr(brrr_board.streams, "MAX_STREAMS", 0)
    await page.open(address)
    await page.wait_until("document.getElementById('state').textContent === 'connecting'")

    monkeypatch.setattr(brrr_board.streams, "MAX_STREAMS", 1)

    assert await page.wait_until("document.getElementById('state').textContent === 'live'")
    assert page.errors
    page.errors.clear()  # the browser logs the refusal


async def test_hidden_page_has_no_stream(
    opened: tuple[Page, str], board: Board, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, address = opened
    monkeypatch.setattr(brrr_board.streams, "STREAM_SECONDS", 3600)
    await page.open(f"{address}topic?name={TOPIC}")
    await page.wait_until("document.getElementById('state').textContent === 'live'")
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true})"
    change = "document.dispatchEvent(new Event('visibilitychange'))"

    await page.evaluate(f"{hide % 'true'}; {change}")
    await until(lambda: board._streams.open == 0, "the hidden page has no stream")
    await fleet.app.schedule("order", topic=TOPIC)(8)
    await fleet.dead(2)
    await page.evaluate(f"{hide % 'false'}; {change}")

    assert await page.wait_until(f"{ROWS} === 2")


async def test_page_keeps_a_pressed_button_until_it_is_released(opened: tuple[Page, str], fleet: Fleet) -> None:
    page, address = opened
    await page.open(f"{address}topic?name={TOPIC}")
    await page.wait_until("document.getElementById('state').textContent === 'live'")
    await page.evaluate(
        "document.dispatchEvent(new Event('pointerdown')); window.told = 0;"
        "const tell = () => { window.told += 1; };"
        "new MutationObserver(tell).observe(document.getElementById('state'), {childList: true})"
    )
    await fleet.app.schedule("order", topic=TOPIC)(8)
    await page.wait_until("window.told > 0")  # news came
    assert await page.evaluate(ROWS) == 1

    await page.evaluate("document.dispatchEvent(new Event('pointerup'))")

    assert await page.wait_until(f"{ROWS} === 2")


async def test_markup_in_names_and_reasons_is_text(opened: tuple[Page, str], fleet: Fleet) -> None:
    page, address = opened
    titles: list[str] = []
    status = await fleet.app.status("order")(7)
    for place in ("", f"topic?name={TOPIC}", "topic?name=%3Cscript%3Ex%3C/script%3E", f"call?hash={status.call_hash}"):
        await page.open(address + place)
        titles.append(await page.evaluate("document.title"))
        assert await page.evaluate("document.querySelectorAll('main script, main img').length") == 0

    assert titles == ["Topics - brrr", "orders - brrr", "<script>x</script> - brrr", "order - brrr"]


async def test_script_of_foreign_markup_does_not_run(opened: tuple[Page, str]) -> None:
    page, address = opened
    await page.open(address)

    await page.evaluate(f"document.querySelector('main').innerHTML = {MARKUP!r}")
    await page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'document.title=1'}))"
    )
    await page.evaluate("new Promise((done) => setTimeout(done))")

    assert await page.evaluate("document.title") == "Topics - brrr"
    assert page.errors
    assert all("Content Security Policy" in each for each in page.errors)
    page.errors.clear()


async def test_graph_of_a_call_folds(opened: tuple[Page, str], fleet: Fleet) -> None:
    page, address = opened
    status = await fleet.app.status("order")(7)
    await page.open(f"{address}call?hash={status.call_hash}")
    heights = [await page.evaluate("document.querySelector('#graph svg').height.baseVal.value")]
    assert await page.evaluate(GROUPS) == 3

    await page.click("#graph circle[role=button]")
    assert await page.evaluate(GROUPS) == 1
    heights.append(await page.evaluate("document.querySelector('#graph svg').height.baseVal.value"))
    await page.click("#graph circle[role=button]")

    assert await page.evaluate(GROUPS) == 3
    assert heights == [88, 40]


async def test_read_only_board_shows_no_buttons(fleet: Fleet, site: Site) -> None:
    async with open_page() as page, site(Board(fleet.connection, topics=[TOPIC])) as address:
        await page.open(f"{address}topic?name={TOPIC}")
        assert await page.evaluate(ROWS) == 1
        assert await page.evaluate("document.querySelectorAll('button[form], form[method=post]').length") == 0
        refused = await page.evaluate(
            f"fetch('act', {{method: 'POST', body: 'topic={TOPIC}&redrive-all=yes'}}).then((answer) => answer.status)"
        )
        page.errors.clear()  # the browser logs the refusal

    assert refused == 403
    assert (await fleet.stats()).dead == 1
