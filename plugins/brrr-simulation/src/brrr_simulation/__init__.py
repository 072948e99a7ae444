"""Deterministic simulation of brrr: whole fleets in virtual time. Every fault comes from a seed.

Each public name is imported when it is first used, because pytest loads this package in every run for its fixture.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from brrr_simulation.checking import CheckFailedError, check
    from brrr_simulation.faults import KINDS
    from brrr_simulation.history import Report, simulate
    from brrr_simulation.watching import Effects

__all__ = ["KINDS", "CheckFailedError", "Effects", "Report", "check", "simulate"]

_HOMES: Final = {
    "KINDS": "faults",
    "CheckFailedError": "checking",
    "Effects": "watching",
    "Report": "history",
    "check": "checking",
    "simulate": "history",
}
"""The module of each public name. This repeats the imports above, which only type checkers read."""


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value
