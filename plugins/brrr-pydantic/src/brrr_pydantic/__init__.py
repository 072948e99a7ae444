"""The pydantic codec of brrr."""
