"""Deliberately broken backends and codecs, each with one defect that the contract kit must find.

`MUTANTS` lists them with the rules that catch them; docs/contract/mutants.md is generated from it.
"""

from mutants import (
    arguments,
    backends,
    caches,
    clocks,
    codecs,
    commits,
    crowds,
    dead_letters,
    deliveries,
    expiries,
    files,
    liars,
    neighbours,
    notifiers,
    operators,
    puts,
    receiving,
    servers,
    stepped_receives,
    stores,
    swaps,
    times,
    torn,
)
from mutants.kit import MUTANTS, Mutant, Sound, sound

__all__ = ["MUTANTS", "Mutant", "Sound", "sound"]

# These imports fill MUTANTS.
_ = (backends, caches, codecs, commits, dead_letters, deliveries, liars, puts, receiving, stepped_receives)
_ = (arguments, clocks, crowds, expiries, files, neighbours, notifiers, operators, servers, stores, swaps, times, torn)
