"""The backends of these tests."""

from tests.support.backends import memory, redis_server, url

__all__ = ["memory", "redis_server", "url"]
