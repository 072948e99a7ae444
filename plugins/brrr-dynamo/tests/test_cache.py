"""Counters: increments, and the amounts and names that are refused."""

import pytest

from brrr_core.errors import ArgumentError


async def test_reading_a_counter_creates_no_item(backend, item_of, prefix):
    assert await backend.cache.increment({prefix: 0}) == {prefix: 0}
    assert item_of(prefix, "count") is None


@pytest.mark.parametrize("name", ["", "x" * 2049, "é" * 1025, "\ud83e"])
async def test_name_that_cannot_be_a_key_is_refused(backend, name):
    with pytest.raises(ArgumentError, match="counter"):
        await backend.cache.increment({name: 1})
