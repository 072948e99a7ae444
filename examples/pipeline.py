"""A document pipeline: broken documents end in the report, and all workers together keep one rate limit.

Set BRRR_QUEUE, for example to sqlite:///pipeline.db, and start some workers in one folder:
`brrr worker examples.pipeline --topic docs --lifespan examples.pipeline:lifespan`. Then run it for a folder of JSON
files like {"customer": "Ann", "euros": 5}: `brrr schedule pipeline /path/of/folder --topic docs --wait`.
"""

import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import brrr_core as brrr

PER_SECOND = 10
"""Requests per second that the exchange office allows to all workers together."""


@dataclass(frozen=True)
class Invoice:
    """The fields of a document."""

    customer: str
    euros: int


@dataclass(frozen=True)
class Report:
    """The result: the invoices in dollars, and why the other documents have none."""

    dollars: dict[str, float]
    rejected: dict[str, str]


@dataclass(frozen=True)
class Limiter:
    """Counts the requests of each second, in a file that all workers share."""

    path: Path

    def allows(self) -> bool:
        """Count a request, unless this second has enough of them."""
        with closing(sqlite3.connect(self.path, timeout=30)) as db, db:
            db.execute("CREATE TABLE IF NOT EXISTS requests (second INTEGER PRIMARY KEY, used INTEGER)")
            counted = db.execute(
                "INSERT INTO requests VALUES (?, 1) ON CONFLICT DO UPDATE SET used = used + 1 WHERE used < ?",
                (int(time.time()), PER_SECOND),
            )
            return counted.rowcount == 1


@asynccontextmanager
async def lifespan(_app: brrr.AppWorker) -> AsyncIterator[Limiter]:
    """Make the state that all calls of a worker share."""
    yield Limiter(Path("limiter.db"))


@brrr.handler
async def pipeline(app: brrr.ActiveWorker, folder: str) -> Report:
    """Convert all documents of a folder. One broken document does not stop the others."""
    paths = await app.call(find)(folder)
    outcomes = await app.gather(*(app.call(convert)(path) for path in paths), return_exceptions=True)
    found = dict(zip(paths, outcomes, strict=True))
    return Report(
        dollars={path: outcome for path, outcome in found.items() if isinstance(outcome, float)},
        # The reason of the first cause: `convert` failed because `parse` failed.
        rejected={path: outcome.reason for path, outcome in found.items() if isinstance(outcome, brrr.CallFailedError)},
    )


@brrr.handler
async def convert(app: brrr.ActiveWorker, path: str) -> float:
    """Convert one document. A failure of `parse` is not caught here, so it fails this call too."""
    invoice = await app.call(parse)(path)
    return await app.call(exchange)(invoice.euros)


@brrr.handler_no_arg
def find(folder: str) -> list[str]:
    """List the documents. The list is stored, so each run of the pipeline sees the same."""
    return [str(path) for path in sorted(Path(folder).glob("*.json"))]


@brrr.handler_no_arg(fail_on=(ValueError,))
def parse(path: str) -> Invoice:
    """Read a document. No retry repairs it: a ValueError, such as JSON's, fails the call at once."""
    fields = json.loads(Path(path).read_text())
    if "euros" not in fields:
        raise brrr.TerminalError("the invoice has no amount", details=sorted(fields))
    return Invoice(fields["customer"], fields["euros"])


@brrr.handler
def exchange(app: brrr.ActiveWorker[Limiter], euros: int) -> float:
    """Ask the exchange office, if it may be asked now. `Again` is not a failure, and needs no worker while it waits."""
    if not app.state.allows():
        raise brrr.Again(after="500ms")
    return round(euros * 1.25, 2)
