"""Deterministic simulation of brrr: whole fleets in virtual time, in which every fault comes from a seed."""

from brrr_simulation.check import CheckFailedError, Effects, check
from brrr_simulation.faults import KINDS
from brrr_simulation.history import Report, simulate

__all__ = ["KINDS", "CheckFailedError", "Effects", "Report", "check", "simulate"]
