"""Root ids are new and printable. Only those of brrr carry information."""

import pytest

from brrr_core.engine.roots import MAX_SPAWN_LIMIT, RootInfo, is_root, new_root_id, parse_root_id
from brrr_core.wire import ScheduleMessage, decode_message, encode_message

CARRIED = [RootInfo(), RootInfo(redriven_at=1_700_000_000), RootInfo(spawn_limit=MAX_SPAWN_LIMIT), RootInfo(5, 1)]
TOKEN = "QznKkpu2ZCPW1clieouBhQ"


def test_root_ids_are_fresh_and_fit_the_wire() -> None:
    ids = {new_root_id("call", **carried._asdict()) for carried in CARRIED for _ in range(100)}
    assert len(ids) == 400
    for root_id in ids:
        assert decode_message(encode_message(ScheduleMessage(root_id, "h"))).root_id == root_id


@pytest.mark.parametrize("carried", CARRIED)
def test_root_id_round_trips_its_contents(carried: RootInfo) -> None:
    assert parse_root_id(new_root_id("call", **carried._asdict())) == carried


@pytest.mark.parametrize("carried", CARRIED)
def test_root_id_knows_its_own_call(carried: RootInfo) -> None:
    root_id = new_root_id("call", **carried._asdict())
    assert is_root(root_id, "call")
    assert not any(is_root(root_id, f"call {n}") for n in range(1_000))
    assert not any(is_root(foreign, "call") for foreign in (TOKEN, "", "x" * 21, f"{root_id}x"))


@pytest.mark.parametrize(
    "foreign",
    [
        TOKEN,
        "",
        "redrive",
        "redrive-",
        f"redrive--5-{TOKEN}",
        f"redrive-5.5-{TOKEN}",
        f"redrive-²-{TOKEN}",
        f"redrive-{'9' * 5_000}-{TOKEN}",
        f"REDRIVE-5-{TOKEN}",
        f"x-redrive-5-{TOKEN}",
        f"limit--5-{TOKEN}",
        f"limit-5-redrive-5-{TOKEN}",
        "limit-5-x",
        "limit-1234567890abcdef",
    ],
)
def test_any_other_root_id_carries_nothing(foreign: str) -> None:
    assert parse_root_id(foreign) == RootInfo()


def test_redrive_counts_as_older_than_put_only_beyond_clock_skew() -> None:
    redrive = RootInfo(redriven_at=1_000)
    assert not RootInfo().is_older_than(2_000, 2_000)
    assert not redrive.is_older_than(1_060, 1_060)
    assert redrive.is_older_than(1_061, 1_061)
    assert redrive.is_older_than(2_000, 1_940)
    assert not redrive.is_older_than(2_000, 1_939)  # a clock that is wrong by more proves nothing
