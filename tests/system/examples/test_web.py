"""examples/web.py: a rolling deployment and a cancelled job, while workers are killed."""

import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import pytest

import brrr_core as brrr
from brrr_testkit.processes import free_port
from brrr_testkit.waiting import until
from examples import web
from tests.system.examples.conftest import TIMEOUT, Fleet

OPTIONS = ("--topic", "jobs", "--backoff", "100ms")  # workers of release 1 refuse calls of release 2 for some time
RELEASE_2 = ("examples.web", *OPTIONS)
RELEASE_1 = ("release_1", *OPTIONS)
CHANGES = {
    "version=2, oldest_version=1": "version=1",
    '    style = "formal" if app.version >= 2 else "plain"\n': "",
    "(book, number, style)": "(book, number)",
    ', style: brrr.Added[str] = "plain"': "",
    "{style}": "plain",
}
"""The differences between release 2 and release 1."""


def release_1() -> str:
    """Return the code of release 1."""
    code = Path(web.__file__).read_text()
    for new, old in CHANGES.items():
        assert new in code
        code = code.replace(new, old)
    return code


@pytest.fixture
async def site(fleet: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    """Run the web site as a process."""
    port = free_port()
    process = fleet.run(sys.executable, "-m", "uvicorn", "examples.web:site", "--port", str(port))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as browser:

        async def answers() -> bool:
            try:
                return (await browser.get("/jobs/none")).status_code == 404
            except httpx.TransportError:
                return False

        await until(answers, "the site answers", bound=TIMEOUT)
        yield browser
    process.kill()
    process.wait()


@pytest.mark.usefixtures("round_")
async def test_rolling_deployment_keeps_running_jobs_and_cancels_one(fleet: Fleet, site: httpx.AsyncClient) -> None:
    (fleet.folder / "release_1.py").write_text(release_1())
    early, unwanted, late = ["early 1", "early 2", "early 3"], "unwanted", ["midway", "late"]

    async def submit(book: str) -> None:
        assert (await site.post("/jobs", json={"book": book})).status_code == 202

    async def begun(book: str) -> bool:
        try:
            return bool(await fleet.client.read(web.chapter)(book, 1))
        except brrr.NotFoundError:
            return False

    async def finished(book: str) -> dict[str, object]:
        answer = (await site.get(f"/jobs/{book}")).json()
        return answer if answer["state"] in ("done", "failed") else {}

    fleet.start(*RELEASE_1, count=3)
    async with fleet.killing(4):
        for book in (*early, unwanted):
            await submit(book)
        for book in (*early, unwanted):  # so that it belongs to release 1
            await until(partial(begun, book), f"{book} has begun", bound=TIMEOUT)
        assert (await site.delete(f"/jobs/{unwanted}")).json() == {"accepted": True}
        await fleet.replace(RELEASE_1, RELEASE_2)
        await submit("midway")
        while fleet.runs(RELEASE_1):
            await fleet.replace(RELEASE_1, RELEASE_2)
        await fleet.connection.redrive("jobs", limit=100)  # calls of release 2 that workers of release 1 refused
        await submit("late")
        for book in (*early, unwanted, *late):
            await until(partial(finished, book), f"{book} has finished", bound=TIMEOUT)

    ends = {book: await finished(book) for book in (*early, unwanted, *late)}
    assert ends.pop(unwanted) == {"state": "failed", "reason": "Cancelled: the call was cancelled"}
    with pytest.raises(brrr.NotFoundError):
        await fleet.client.read(web.chapter)(unwanted, web.CHAPTERS)
    in_style = {
        style: {book: [f"chapter {n + 1} of {book} in a {style} style" for n in range(web.CHAPTERS)] for book in ends}
        for style in ("plain", "formal")
    }
    for book, end in ends.items():
        styles = ("plain",) if book in early else ("formal",) if book == "late" else ("plain", "formal")
        assert end["chapters"] in [in_style[style][book] for style in styles]
    for book in early:  # the calls are those of release 1, whose chapters have no style
        assert [await fleet.client.read("chapter")(book, n + 1) for n in range(web.CHAPTERS)] == in_style["plain"][book]
        with pytest.raises(brrr.NotFoundError):
            await fleet.client.read("chapter")(book, 1, "plain")
    assert (await site.delete("/jobs/late")).json() == {"accepted": False}
    assert await fleet.dead("jobs") == []
