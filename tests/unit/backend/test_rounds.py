"""`rounds_of` splits a batch so that no key is in a round twice."""

from hypothesis import given, settings
from hypothesis import strategies as st

from brrr_core.backend import rounds_of


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcde")))
def test_rounds_have_every_index_once_and_keep_the_order_of_each_key(keys: list[str]) -> None:
    rounds = rounds_of(keys)

    assert sorted(index for indexes in rounds for index in indexes) == list(range(len(keys)))
    assert len(rounds) == max(map(keys.count, keys), default=0)
    for indexes in rounds:
        assert len({keys[index] for index in indexes}) == len(indexes)
    for key in set(keys):
        mine = [index for indexes in rounds for index in indexes if keys[index] == key]
        assert mine == sorted(mine)


def test_keys_that_differ_are_one_round() -> None:
    assert rounds_of("abc") == [[0, 1, 2]]
    assert rounds_of("aba") == [[0, 1], [2]]
    assert rounds_of("") == []
