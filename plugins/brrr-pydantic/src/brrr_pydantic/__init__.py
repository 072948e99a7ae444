"""brrr's codec for pydantic."""
