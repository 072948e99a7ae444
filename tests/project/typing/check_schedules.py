# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Types of recurring schedules: mypy and pyright check this file, and nothing runs it."""

from datetime import datetime

import brrr_core as brrr
import brrr_cron


@brrr.handler_no_arg
async def text(tick: str) -> None: ...


@brrr.handler
async def instant(app: brrr.ActiveWorker, tick: datetime, salt: int = 0) -> int:
    return salt


@brrr.handler
def number(app: brrr.ActiveWorker, tick: int) -> None: ...


@brrr.handler_no_arg
async def nothing() -> None: ...


async def work(conn: brrr.Connection, app: brrr.AppWorker) -> None:
    schedules = [
        brrr_cron.every("0 3 * * *", text),
        brrr_cron.every("0 3 * * *", instant, timezone="Europe/Berlin", missed="all"),
        brrr_cron.every("0 3 * * *", "elsewhere", topic="other", name="a"),
    ]
    await conn.loop("demo", app.handle, schedules=schedules)

    brrr_cron.every("0 3 * * *", number)  # type: ignore[arg-type]
    brrr_cron.every("0 3 * * *", nothing)  # type: ignore[arg-type]
    brrr_cron.every("0 3 * * *", text, missed="some")  # type: ignore[arg-type]
    await conn.loop("demo", app.handle, schedules=["0 3 * * *"])  # type: ignore[list-item]
