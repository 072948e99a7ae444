"""The linearizability check accepts a history if, and only if, an order explains it."""

from itertools import permutations
from random import Random
from typing import Any

import pytest

from brrr_contract_kit.testbed.histories import Operation, from_json, linearizable, to_json


def op(kind: Any, begun: int, ended: int, value: bytes | None, **more: Any) -> Operation:
    return Operation(kind, begun, ended, value, **more)


@pytest.mark.parametrize(
    ("history", "possible"),
    [
        ([], True),
        ([op("read", 1, 2, None)], True),
        ([op("read", 1, 2, b"x")], False),
        # A read after a write sees it; one that overlaps may or may not.
        ([op("write", 1, 2, b"x"), op("read", 3, 4, None)], False),
        ([op("write", 1, 4, b"x"), op("read", 2, 3, None)], True),
        ([op("write", 1, 4, b"x"), op("read", 2, 3, b"x")], True),
        # After one reader has seen a write, later readers see it too.
        ([op("write", 1, 9, b"x"), op("read", 2, 3, b"x"), op("read", 4, 5, None)], False),
        # Only one of two creates succeeds.
        ([op("swap", 1, 4, b"x"), op("swap", 2, 3, b"y")], False),
        ([op("swap", 1, 4, b"x"), op("swap", 2, 3, b"y", succeeded=False)], True),
        ([op("swap", 1, 4, b"x", succeeded=False), op("swap", 2, 3, b"y", succeeded=False)], False),
        # A lost update.
        (
            [
                op("write", 0, 1, b"0"),
                op("swap", 2, 5, b"1", expected=b"0"),
                op("swap", 3, 6, b"2", expected=b"0"),
            ],
            False,
        ),
    ],
)
def test_linearizable_accepts_only_histories_that_an_order_explains(history: list[Operation], possible: bool) -> None:
    assert linearizable(history) is possible


def test_search_agrees_with_trying_every_order() -> None:
    random = Random(7)
    verdicts = set()
    for _ in range(300):
        history = []
        for _ in range(5):
            begun = random.randrange(10)
            kind: Any = random.choice(["read", "write", "swap"])
            value, expected = random.choice([None, b"a", b"b"]), random.choice([None, b"a", b"b"])
            if kind == "write" and value is None:
                value = b"a"
            succeeded = kind != "swap" or random.random() < 0.5
            history.append(Operation(kind, begun, begun + random.randrange(1, 6), value, expected, succeeded))
        verdicts.add(linearizable(history))
        assert linearizable(history) is any(explains(order) for order in permutations(history)), history
    assert verdicts == {True, False}


def explains(order: tuple[Operation, ...]) -> bool:
    state: bytes | None = None
    for place, each in enumerate(order):
        if any(later.ended < each.begun for later in order[place:]):
            return False
        possible, state = each.after(state)
        if not possible:
            return False
    return True


def test_history_survives_json() -> None:
    history = [op("write", 1, 2, b"\xff\0"), op("swap", 3, 4, None, expected=b"\xff\0", succeeded=False)]

    values: Any = to_json(history)
    assert from_json(values) == history
