"""The backends that each program runs on."""

from tests.support.backends import memory, nats_server, redis_server, url

__all__ = ["memory", "nats_server", "redis_server", "url"]
