"""The board of the demo: an order fails on purpose, and a click redrives it."""

from unittest.mock import Mock

from brrr_testkit.browser import open_page
from examples.demo.__main__ import open_board, parse

from .conftest import Demo


async def test_failed_order_is_redriven_by_a_click(demo: Demo) -> None:
    await demo.http.post("/order?number=7")
    async with open_page() as page:
        await page.open(f"{str(demo.http.base_url).rstrip('/')}/board")
        await page.wait_until("document.querySelector('#summary a')")
        await page.click("#summary a", loads=True)
        await page.click("button[name=redrive]", loads=True)

        assert await page.wait_until("document.querySelectorAll('tbody tr').length === 0")
        assert page.errors == []
    assert await demo.result("/order?number=7") == ["reserved the goods of order 7", "charged order 7"]


def test_board_that_other_machines_reach_changes_nothing() -> None:
    local, remote, named = (
        open_board(parse(arguments), Mock(mask=str))._allow_changes
        for arguments in ([], ["--host", "0.0.0.0"], ["--allow-host", "ops.example"])
    )

    assert (local, remote, named) == (True, False, False)
