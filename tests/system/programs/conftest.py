"""The backends that each program runs on."""

from brrr_testkit.servers.nats import nats_server
from brrr_testkit.servers.redis import redis_server
from tests.support.backends import memory, url

__all__ = ["memory", "nats_server", "redis_server", "url"]
