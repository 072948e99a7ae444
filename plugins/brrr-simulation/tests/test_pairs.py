"""Pairs of operations: which of them histories hit, and the table of those that none did."""

import pytest

from brrr_core.backend import Key, Swap
from brrr_simulation.__main__ import main
from brrr_simulation.pairs import Pairs

CALL = "a" * 64


def test_pair_is_an_operation_of_another_process_before_the_answer() -> None:
    pairs, read, swap = Pairs(), [Key("value", CALL)], [Swap(Key("pending_returns", CALL), None, b"")]
    pairs.effect("one", "store.read", read)
    pairs.effect("two", "store.swap", swap)
    pairs.ended("one", "store.read", read, cut=False)
    pairs.ended("two", "store.swap", swap, cut=False)
    pairs.effect("two", "store.read", [*read])

    assert pairs.counts == {("read value", "swap pending"): 1}
    assert "read value              2  read value" in pairs.table()


def test_operation_that_was_cut_off_stays_under_way_until_its_process_comes_back() -> None:
    pairs, swap = Pairs(), [Swap(Key("value", CALL), None, b"1")]
    pairs.effect("one", "store.swap", swap)
    pairs.ended("one", "store.swap", swap, cut=True)
    pairs.effect("two", "store.read", [Key("value", CALL)])
    pairs.effect("one", "store.read", [Key("value", CALL)])
    pairs.effect("two", "store.swap", [*swap])

    assert pairs.counts == {
        ("swap value", "read value"): 1,
        ("read value", "swap value"): 1,
        ("read value", "read value"): 1,
    }


def test_command_prints_the_pairs_that_were_never_hit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--pairs", "2", "--first", "9"]) == 0
    text = capsys.readouterr().out
    assert "Seeds from 9, 2 histories" in text
    assert "ordered pairs" in text
