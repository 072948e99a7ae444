"""The manifest of brrr-nats, which does not import nats."""

from typing import Final

from brrr_core.backend import BackendManifest, CacheCapabilities, QueueCapabilities, StoreCapabilities
from brrr_nats.options import MAX_BODY, MAX_VALUE, NatsOptions

__all__ = ["MANIFEST"]

MANIFEST: Final = BackendManifest(
    contract=1,
    schemes=("nats",),
    summary="queue, store and cache on NATS JetStream, one server or a cluster",
    example="nats://localhost:4222",
    backend="brrr_nats.backend:NatsBackend",
    options=NatsOptions,
    # The servers count a message with an expired lease as leased until they deliver it again.
    queue=QueueCapabilities(durable=True, shared=True, delay=True, ordered=True, max_body=MAX_BODY, exact_stats=False),
    store=StoreCapabilities(durable=True, shared=True, max_value=MAX_VALUE),
    cache=CacheCapabilities(durable=True, shared=True),
)
