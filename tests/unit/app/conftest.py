"""The backends of these tests."""

from tests.support.backends import memory, url

__all__ = ["memory", "url"]
