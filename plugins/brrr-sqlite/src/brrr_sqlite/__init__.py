"""brrr on one SQLite file: queue, store and cache."""
