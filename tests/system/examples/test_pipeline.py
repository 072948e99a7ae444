"""examples/pipeline.py: broken documents and a rate limit, while workers are killed."""

import json
import sqlite3
from pathlib import Path

import pytest

from examples import pipeline
from examples.pipeline import Report
from tests.system.examples.conftest import TIMEOUT, Fleet

DOCUMENTS = 45
WORKER = ("examples.pipeline", "--topic", "docs", "--lifespan", "examples.pipeline:lifespan", "--max-attempts", "1")
"""With a single attempt: a call that waits for the rate limit must not use it up."""


def write(folder: Path) -> Report:
    """Write documents, some of them broken. Return the report that they must give."""
    folder.mkdir()
    report = Report({}, {})
    for number in range(DOCUMENTS):
        path = folder / f"{number:02}.json"
        match number % 9:
            case 0:
                path.write_text("{broken")
                report.rejected[str(path)] = (
                    "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
                )
            case 1:
                path.write_text(json.dumps({"customer": "Ann"}))
                report.rejected[str(path)] = "the invoice has no amount"
            case _:
                path.write_text(json.dumps({"customer": "Ann", "euros": number}))
                report.dollars[str(path)] = number * 1.25
    return report


@pytest.mark.usefixtures("round_")
async def test_report_is_complete_and_limit_holds_while_workers_are_killed(fleet: Fleet) -> None:
    folder = fleet.folder / "documents"
    expected = write(folder)
    await fleet.client.schedule(pipeline.pipeline, topic="docs")(str(folder))

    fleet.start(*WORKER, count=3)
    async with fleet.killing(5):
        report = await fleet.client.result(pipeline.pipeline, timeout=TIMEOUT)(str(folder))

    assert report == expected
    with sqlite3.connect(fleet.folder / "limiter.db") as db:
        used = [count for (count,) in db.execute("SELECT used FROM requests")]
    assert sum(used) >= len(expected.dollars)
    assert max(used) <= pipeline.PER_SECOND
    assert await fleet.dead("docs") == []
