"""`every` checks its arguments immediately, and its tasks get the instant of the tick in every codec."""

from datetime import UTC, datetime
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.errors import ArgumentError, HandlerError, SignatureError, UnknownTaskError
from brrr_cron import every
from brrr_testkit.workloads.fleet import TOPIC

TICK = "2026-03-29T01:00:00Z"


@brrr.handler_no_arg
async def nightly(tick: str) -> str:
    return tick


@brrr.handler
async def dated(app: brrr.ActiveWorker, tick: datetime) -> str:
    return tick.isoformat()


@brrr.handler_no_arg
async def nothing() -> None: ...


def test_default_name_has_task_expression_and_time_zone() -> None:
    assert every("0  3 * * *", nightly).name == "nightly 0 3 * * * UTC"
    assert every("0 3 * * *", "größe", timezone="Europe/Berlin").name == r"gr\xf6\xdfe 0 3 * * * Europe/Berlin"
    assert every("0 3 * * *", nightly, name="report").name == "report"


@pytest.mark.parametrize("name", ["", "a\nb", "größe", "x" * 201])
def test_name_is_printable_ascii(name: str) -> None:
    with pytest.raises(ArgumentError, match="cannot name a schedule"):
        every("0 3 * * *", nightly, name=name)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"spec": "0 3 * *"}, ArgumentError, "is not a cron expression"),
        ({"timezone": "Mars"}, ArgumentError, "no time zone 'Mars'"),
        ({"missed": "some"}, ArgumentError, "missed is 'some'"),
        ({"topic": ""}, ArgumentError, "topic"),
        ({"task": nothing}, SignatureError, "do not fit the handler 'nothing'"),
        ({"task": nightly.function}, HandlerError, "neither a handler nor a name"),
    ],
)
def test_wrong_argument_is_refused_immediately(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        every(**{"spec": "0 3 * * *", "task": nightly, **arguments})


def test_next_returns_the_instant_in_utc() -> None:
    schedule = every("30 2 * * *", nightly, timezone="Europe/Berlin")

    assert schedule.next(datetime(2026, 3, 28, 12, tzinfo=UTC)) == datetime(2026, 3, 29, 1, tzinfo=UTC)
    with pytest.raises(ArgumentError, match="has no time zone"):
        schedule.next(datetime(2026, 3, 28, 12))  # noqa: DTZ001 - the point of the test


@pytest.mark.parametrize("codec", ["json", "json-object", "msgpack"])
@pytest.mark.parametrize(("task", "expected"), [(nightly, TICK), (dated, "2026-03-29T01:00:00+00:00")])
async def test_task_receives_text_or_datetime_in_every_codec(codec: str, task: Any, expected: str) -> None:
    """The call is the one of `app.schedule(task)("2026-03-29T01:00:00Z")`."""
    every("0 3 * * *", task)
    local = brrr.LocalBrrr(handlers={"nightly": nightly, "dated": dated}, codec=codec)

    assert await local.run(task)(TICK) == expected


async def test_handler_that_the_application_does_not_have_is_refused_before_the_loop() -> None:
    async with brrr.serve("memory:every") as connection:
        app = brrr.AppWorker(handlers={"dated": dated}, codec="json", connection=connection)
        with pytest.raises(UnknownTaskError, match="'nightly' is not registered"):
            await connection.loop(TOPIC, app.handle, schedules=[every("0 3 * * *", nightly)])


async def test_function_that_is_not_a_method_of_an_application_is_refused_before_the_loop() -> None:
    async with brrr.serve("memory:every") as connection:
        app = brrr.AppWorker(handlers={"nightly": nightly}, codec="json", connection=connection)

        async def wrapped(run: Any, call: Any) -> bytes:
            return await app.handle(run, call)

        with pytest.raises(ArgumentError, match="needs an application"):
            await connection.loop(TOPIC, wrapped, schedules=[every("0 3 * * *", nightly)])


async def test_two_schedules_with_one_name_are_refused_before_the_loop() -> None:
    async with brrr.serve("memory:every") as connection:
        app = brrr.AppWorker(handlers={"nightly": nightly, "dated": dated}, codec="json", connection=connection)
        schedules = [every("0 3 * * *", nightly, name="a"), every("0 4 * * *", dated, name="a")]
        with pytest.raises(ArgumentError, match="two schedules have the name 'a'"):
            await connection.loop(TOPIC, app.handle, schedules=schedules)
