"""The manifest of brrr-redis. This module imports no client library."""

from typing import Final

from brrr_core.backend import BackendManifest, CacheCapabilities, QueueCapabilities, StoreCapabilities
from brrr_redis.options import MAX_BODY, MAX_VALUE, RedisOptions

__all__ = ["MANIFEST"]

MANIFEST: Final = BackendManifest(
    contract=1,
    schemes=("redis", "rediss", "redis+unix", "redis+cluster", "redis+sentinel", "valkey"),
    summary="queue, store and cache on Redis or Valkey, shared with workers in other languages",
    example="redis://localhost:6379/0",
    backend="brrr_redis.backend:RedisBackend",
    options=RedisOptions,
    queue=QueueCapabilities(durable=True, shared=True, delay=True, ordered=True, max_body=MAX_BODY),
    store=StoreCapabilities(durable=True, shared=True, max_value=MAX_VALUE),
    cache=CacheCapabilities(durable=True, shared=True),
)
