"""The clock gives microseconds, and does not go back by a little."""

from brrr_sqlite.clock import Clock, microseconds


def test_it_gives_microseconds(hands):
    hands.now = 12.000345
    assert Clock(hands)() == 12_000_345


def test_set_back_by_a_little_it_stands_still(hands):
    clock = Clock(hands)
    before = clock()
    hands.now -= 59
    assert clock() == before
    hands.now += 59.000001
    assert clock() == before + 1


def test_set_back_by_much_it_believes(hands):
    clock = Clock(hands)
    before = clock()
    hands.now -= 3600
    assert clock() == before - 3_600_000_000


def test_a_span_is_cut_to_what_fits():
    assert microseconds(1.5) == 1_500_000
    assert microseconds(1e300) + 2**61 < 2**63
