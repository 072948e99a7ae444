"""The backend of unit tests: memory, since they start no server."""

from tests.support.backends import memory

__all__ = ["memory"]
