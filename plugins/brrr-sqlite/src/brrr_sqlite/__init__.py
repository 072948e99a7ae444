"""A brrr backend that keeps queue, store and cache in one SQLite file."""
