"""Counters: increments, and the amounts and names that are refused."""

import pytest

from brrr_core.errors import ArgumentError, BackendError


async def test_reading_a_counter_creates_no_item(backend, item_of, prefix):
    assert await backend.cache.increment({prefix: 0}) == {prefix: 0}
    assert item_of(prefix, "count") is None


async def test_counts_of_37_digits_are_kept(backend, prefix):
    most = 10**37 - 1
    assert await backend.cache.increment({prefix: most}) == {prefix: most}
    assert await backend.cache.increment({prefix: -most}) == {prefix: 0}


@pytest.mark.parametrize("amount", [10**37, -(10**37), 10**400])
async def test_amount_of_more_than_37_digits_is_refused(backend, prefix, amount):
    with pytest.raises(ArgumentError, match="37 digits"):
        await backend.cache.increment({prefix: amount})


@pytest.mark.parametrize("name", ["", "x" * 2049, "é" * 1025, "\ud83e"])
async def test_name_that_cannot_be_a_key_is_refused(backend, name):
    with pytest.raises(ArgumentError, match="counter"):
        await backend.cache.increment({name: 1})


@pytest.mark.usefixtures("_not_moto")
async def test_overflowing_count_raises_an_error(backend, prefix):
    most = 10**37 - 1

    async def count_on():
        for _ in range(20):
            await backend.cache.increment({prefix: most})

    with pytest.raises(BackendError, match="UpdateItem"):
        await count_on()
