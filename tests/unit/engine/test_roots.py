"""Root ids: fresh, printable, and a redrive's mark is read from its own ids only."""

import pytest

from brrr_core.engine.roots import new_redrive_id, new_root_id, redriven_at
from brrr_core.wire import ScheduleMessage, decode_message, encode_message


def test_root_ids_are_fresh_and_fit_the_wire() -> None:
    ids = {make() for make in (new_root_id, lambda: new_redrive_id(5)) for _ in range(100)}
    assert len(ids) == 200
    for root_id in ids:
        assert decode_message(encode_message(ScheduleMessage(root_id, "h"))).root_id == root_id


def test_a_redrive_id_tells_since_when() -> None:
    assert redriven_at(new_redrive_id(1_700_000_000)) == 1_700_000_000


@pytest.mark.parametrize(
    "foreign",
    [
        "QznKkpu2ZCPW1clieouBhQ",
        "",
        "redrive",
        "redrive-",
        "redrive--5-x",
        "redrive-5.5-x",
        "redrive-²-x",
        "redrive-" + "9" * 5_000,
        "REDRIVE-5-x",
        "x-redrive-5",
    ],
)
def test_any_other_id_was_never_redriven(foreign: str) -> None:
    assert redriven_at(foreign) < 0
