"""Counters: what an increment asks for, and what is no count."""

import pytest

from brrr_core.errors import ArgumentError, BackendError


async def test_nothing_is_made_by_reading(backend, item_of, prefix):
    assert await backend.cache.increment({prefix: 0}) == {prefix: 0}
    assert item_of(prefix, "count") is None


async def test_the_longest_counts(backend, prefix):
    most = 10**37 - 1
    assert await backend.cache.increment({prefix: most}) == {prefix: most}
    assert await backend.cache.increment({prefix: -most}) == {prefix: 0}


@pytest.mark.parametrize("amount", [10**37, -(10**37), 10**400])
async def test_amounts_that_dynamodb_cannot_hold(backend, prefix, amount):
    with pytest.raises(ArgumentError, match="37 digits"):
        await backend.cache.increment({prefix: amount})


@pytest.mark.parametrize("name", ["", "x" * 2049, "é" * 1025])
async def test_names_that_are_no_keys(backend, name):
    with pytest.raises(ArgumentError, match="counter"):
        await backend.cache.increment({name: 1})


@pytest.mark.usefixtures("_not_moto")
async def test_a_count_that_overflows_is_told(backend, prefix):
    most = 10**37 - 1

    async def count_on():
        for _ in range(20):
            await backend.cache.increment({prefix: most})

    with pytest.raises(BackendError, match="UpdateItem"):
        await count_on()
