"""The engine of a worker: it receives messages, runs calls, and defers, returns or retries them.

`docs/explanation/engine.md` describes it.
"""
