"""Shared helpers for the tests of the engine, the application and the plugins."""
