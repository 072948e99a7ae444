"""Deterministic simulation of brrr: whole fleets in virtual time, in which every fault comes from a seed."""

from brrr_simulation.history import Report, simulate

__all__ = ["Report", "simulate"]
