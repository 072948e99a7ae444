"""Batches of swaps, for servers whose batch may change each key only once."""

from collections.abc import Hashable, Iterable

__all__ = ["rounds_of"]


def rounds_of(keys: Iterable[Hashable]) -> list[list[int]]:
    """Return the indexes of the keys in rounds, which run one after another.

    No key is in a round twice, and those of one key are in order. Without a repeated key, there is one round.
    """
    rounds: list[list[int]] = []
    seen: dict[Hashable, int] = {}
    for index, key in enumerate(keys):
        number = seen[key] = seen.get(key, -1) + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(index)
    return rounds
