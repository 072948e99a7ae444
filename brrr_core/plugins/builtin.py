"""The manifests of the core's own plugins: the backend `memory:` and the codecs."""

from typing import Final

from brrr_core.backend.manifests import (
    BackendManifest,
    CacheCapabilities,
    QueueCapabilities,
    StoreCapabilities,
)
from brrr_core.backend.memory import MAX_BYTES, MemoryOptions
from brrr_core.codec import CodecManifest

__all__ = ["JSON", "JSON_OBJECT", "MEMORY", "MSGPACK"]

MEMORY: Final = BackendManifest(
    contract=1,
    schemes=("memory",),
    summary="queue, store and cache in this process, lost when it ends; `memory:NAME` is shared within the process",
    example="memory:",
    backend="brrr_core.backend.memory:MemoryBackend",
    options=MemoryOptions,
    queue=QueueCapabilities(durable=False, shared=False, delay=True, ordered=True, max_body=MAX_BYTES),
    store=StoreCapabilities(durable=False, shared=False, max_value=MAX_BYTES),
    cache=CacheCapabilities(durable=False, shared=False),
)

JSON: Final = CodecManifest(
    contract=1,
    name="json",
    summary="JSON, positional arguments as the TypeScript SDK writes them",
    codec="brrr_core.codec.json:JsonCodec",
)

JSON_OBJECT: Final = CodecManifest(
    contract=1,
    name="json-object",
    summary="JSON, keyword arguments as one object, for TypeScript functions with one object argument",
    codec="brrr_core.codec.json:JsonObjectCodec",
)

MSGPACK: Final = CodecManifest(
    contract=1,
    name="msgpack",
    summary="compact MessagePack; bytes stay bytes",
    codec="brrr_core.codec.msgpack:MsgpackCodec",
)
