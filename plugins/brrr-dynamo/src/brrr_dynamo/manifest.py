"""Manifest of brrr-dynamo. This module imports no client library."""

from typing import Final

from brrr_core.backend import BackendManifest, CacheCapabilities, StoreCapabilities
from brrr_dynamo.options import MAX_VALUE, DynamoOptions

__all__ = ["MANIFEST"]

MANIFEST: Final = BackendManifest(
    contract=1,
    schemes=("dynamo",),
    summary="store and cache in a DynamoDB table, shared with workers in other languages",
    example="dynamo://brrr?region=eu-west-1",
    backend="brrr_dynamo.backend:DynamoBackend",
    options=DynamoOptions,
    store=StoreCapabilities(durable=True, shared=True, max_value=MAX_VALUE),
    cache=CacheCapabilities(durable=True, shared=True),
)
