"""The manifest of brrr-sqlite. It does not import SQLite."""

from typing import Final

from brrr_core.backend import BackendManifest, CacheCapabilities, QueueCapabilities, StoreCapabilities
from brrr_sqlite.options import MAX_BYTES, SqliteOptions

__all__ = ["MANIFEST"]

MANIFEST: Final = BackendManifest(
    contract=1,
    schemes=("sqlite",),
    summary="queue, store and cache in one SQLite file, for any number of processes on one machine",
    example="sqlite:///brrr.db",
    backend="brrr_sqlite.backend:SqliteBackend",
    options=SqliteOptions,
    queue=QueueCapabilities(durable=True, shared=True, delay=True, ordered=True, max_body=MAX_BYTES),
    store=StoreCapabilities(durable=True, shared=True, max_value=MAX_BYTES),
    cache=CacheCapabilities(durable=True, shared=True),
)
