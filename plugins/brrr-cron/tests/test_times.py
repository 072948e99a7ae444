"""The times of cron expressions: time zones with their jumps, long gaps, and expressions that are refused."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from brrr_core.errors import ArgumentError
from brrr_cron.times import MAX_TIMES, Times, read_text, text_of


def local_times(spec: str, zone: str, start: str, number: int) -> list[str]:
    """Return the next local times after a local time, with their offsets from UTC."""
    begin = datetime.fromisoformat(start).replace(tzinfo=ZoneInfo(zone))
    found = islice(Times(spec, zone).after(begin.astimezone(UTC)), number)
    return [time.astimezone(ZoneInfo(zone)).strftime("%d %H:%M%z") for time in found]


@pytest.mark.parametrize(
    ("zone", "spec", "start", "expected"),
    [
        # From 2:00 to 3:00 there is no local time on 29 March.
        ("Europe/Berlin", "30 2 * * *", "2026-03-28 00:00", ["28 02:30+0100", "29 03:00+0200", "30 02:30+0200"]),
        ("America/New_York", "15 2 * * *", "2026-03-07 00:00", ["07 02:15-0500", "08 03:00-0400", "09 02:15-0400"]),
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03 00:00", ["03 02:15+1030", "04 02:30+1100", "05 02:15+1100"]),
        ("Africa/Cairo", "0 0 * * *", "2026-04-23 12:00", ["24 01:00+0300", "25 00:00+0300"]),
        ("Pacific/Apia", "0 12 * * *", "2011-12-28 20:00", ["29 12:00-1000", "31 00:00+1400", "31 12:00+1400"]),
        ("Europe/Berlin", "*/30 * * * *", "2026-03-29 01:10", ["29 01:30+0100", "29 03:00+0200", "29 03:30+0200"]),
        ("Europe/Berlin", "0 30 2 * * *", "2026-03-28 00:00", ["28 02:30+0100", "30 02:30+0200"]),
    ],
)
def test_time_that_does_not_exist_moves_to_the_end_of_the_gap(
    zone: str, spec: str, start: str, expected: list[str]
) -> None:
    """Expressions that repeat within the hour just continue, and those with seconds leave it out."""
    assert local_times(spec, zone, start, len(expected)) == expected


@pytest.mark.parametrize(
    ("zone", "spec", "start", "expected"),
    [
        # The local times from 2:00 to 3:00 of 25 October exist twice.
        ("Europe/Berlin", "30 2 * * *", "2026-10-24 20:00", ["25 02:30+0200", "26 02:30+0100"]),
        ("America/New_York", "30 1 * * *", "2026-10-31 20:00", ["01 01:30-0400", "02 01:30-0500"]),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04 20:00", ["05 01:45+1100", "06 01:45+1030"]),
        ("Europe/Berlin", "0 * * * *", "2026-10-25 01:30", ["25 02:00+0200", "25 02:00+0100", "25 03:00+0100"]),
        ("Europe/Berlin", "0 30 2 * * *", "2026-10-24 20:00", ["25 02:30+0200", "25 02:30+0100", "26 02:30+0100"]),
    ],
)
def test_time_that_exists_twice_counts_once(zone: str, spec: str, start: str, expected: list[str]) -> None:
    """Expressions that repeat each hour just continue, and those with seconds count both."""
    assert local_times(spec, zone, start, len(expected)) == expected


SPECS = ("30 2 * * *", "0 3 * * *", "0 2,3 * * *", "*/20 * * * *", "15 * * * *", "0 15 2 * * *")
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC")
# cronsim does not expect a jump of half an hour in an expression with seconds: docs/decisions/0029-cron.md
PLACES = sorted({(spec, zone) for spec in SPECS for zone in ZONES} - {("0 15 2 * * *", "Australia/Lord_Howe")})


@pytest.mark.parametrize(("spec", "zone"), PLACES)
@pytest.mark.parametrize("day", [(3, 7), (3, 28), (4, 4), (10, 3), (10, 24), (10, 31)], ids=str)
def test_times_do_not_depend_on_the_instant_at_which_a_worker_looks(spec: str, zone: str, day: tuple[int, int]) -> None:
    times = Times(spec, zone)
    begin = datetime(2026, *day, tzinfo=UTC)
    end = begin + timedelta(days=2)
    whole = [*times.latest(begin, end), next(times.after(end))]
    assert whole == sorted(set(whole))
    at = begin
    while at < end:
        assert next(times.after(at)) == next(time for time in whole if time > at)
        at += timedelta(minutes=10)


def test_latest_returns_all_times_of_a_short_gap() -> None:
    times = Times("0 3 * * *", "UTC")
    after, until = datetime(2026, 1, 1, 3, tzinfo=UTC), datetime(2026, 1, 4, 3, tzinfo=UTC)

    assert times.latest(after, until) == [datetime(2026, 1, day, 3, tzinfo=UTC) for day in (2, 3, 4)]
    assert times.latest(until, after) == []


def test_latest_returns_the_last_times_of_a_long_gap_without_a_search_through_all() -> None:
    times = Times("* * * * *", "UTC")
    looked = 0
    after = times.after

    def counted(instant: datetime) -> Iterator[datetime]:
        nonlocal looked
        for time in after(instant):
            looked += 1
            yield time

    times.after = counted  # type: ignore[method-assign]
    until = datetime(2036, 1, 1, tzinfo=UTC)
    found = times.latest(datetime(2026, 1, 1, tzinfo=UTC), until)

    assert found == [until - timedelta(minutes=minutes) for minutes in range(MAX_TIMES - 1, -1, -1)]
    assert looked < 2_000


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "0 3 * *",
        "0 25 * * *",
        "*/0 * * * *",
        "@daily",
        "0 0 31 2 *",
        "0 0 30 2 *",
        "x * * * *",
        "0 0 * * MON-",
        "²* * * * *",
    ],
)
def test_wrong_expression_is_refused(spec: str) -> None:
    with pytest.raises(ArgumentError, match="cron expression"):
        Times(spec, "UTC")


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../etc/passwd", "Europe", "CET+1 "])
def test_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(ArgumentError, match="there is no time zone"):
        Times("0 3 * * *", zone)


def test_text_of_an_instant_can_be_read() -> None:
    instant = datetime(2026, 3, 29, 1, 0, 5, tzinfo=UTC)

    assert text_of(instant) == "2026-03-29T01:00:05Z"
    assert read_text(text_of(instant)) == instant
