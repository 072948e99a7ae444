"""Fleets that mix our workers with those of other languages."""
