"""Backends and codecs that are broken on purpose, each in one way: what the contract kit must find.

`MUTANTS` lists them, with the rules that catch them; docs/contract/mutants.md is made from it.
"""

from mutants import backends, caches, codecs, dead_letters, deliveries, liars, puts, receiving, stores, swaps
from mutants.kit import MUTANTS, Mutant, Sound, sound

__all__ = ["MUTANTS", "Mutant", "Sound", "sound"]

_ = (backends, caches, codecs, dead_letters, deliveries, liars, puts, receiving, stores, swaps)  # they fill the list
