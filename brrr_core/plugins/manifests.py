"""What a plugin says of itself, before anything of it is imported: a manifest.

A manifest lives in a module that imports no client library, so that listing plugins, telling what is wrong with one,
and choosing among many cost nothing. An entry point of the group `brrr.backends` or `brrr.codecs` names it; the entry
point's name is the URL scheme, or the codec's name.
"""

from dataclasses import dataclass, field
from typing import Final

from brrr_core.backend.contracts import CONTRACT_VERSION

__all__ = [
    "CONTRACT_VERSION",
    "BackendManifest",
    "CacheCapabilities",
    "CodecManifest",
    "NoOptions",
    "QueueCapabilities",
    "StoreCapabilities",
]

MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCapabilities:
    """What the queue can do.

    Declared: the contract kit demands it. Not declared: the operation refuses, and the kit demands that.

    Attributes:
        durable: What `put` returned for survives the death of every process of ours.
        shared: Several processes on one URL see one queue.
        delay: `put` and `release` take a positive delay.
        ordered: One producer's messages reach one consumer in the order they were put, while nothing is released.
        max_body: The largest body, in bytes.
    """

    durable: bool
    shared: bool
    delay: bool
    ordered: bool = False
    max_body: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCapabilities:
    """What the store can do.

    Attributes:
        durable: What `write` and `swap` returned for survives the death of every process of ours.
        shared: Several processes on one URL see one store.
        max_value: The largest value, in bytes.
    """

    durable: bool
    shared: bool
    max_value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCapabilities:
    """What the cache can do.

    Attributes:
        durable: Counters survive the death of every process of ours.
        shared: Several processes on one URL see the same counters.
    """

    durable: bool
    shared: bool


@dataclass(frozen=True, slots=True)
class NoOptions:
    """The options of a backend that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendManifest:
    """What a backend plugin ships under its entry points.

    Attributes:
        contract: The contract version that the plugin was written for; a literal, so that it stays true.
        schemes: The URL schemes that it claims, each an entry point of the group `brrr.backends`.
        summary: One line for `brrr backends`.
        example: A URL as a user would write it.
        backend: Where the backend is, as `module:callable`; called with a `BackendUrl` and an instance of `options`,
            it gives a `Backend` that is not open.
        options: A frozen dataclass: one field an option, each with a type of `brrr_core.plugins.options` and a default.
        queue: The queue's capabilities, or None where the backend is no queue.
        store: The store's capabilities, or None where the backend is no store.
        cache: The cache's capabilities, or None where the backend is no cache.
    """

    contract: int
    schemes: tuple[str, ...]
    summary: str
    example: str
    backend: str
    options: type = field(default=NoOptions)
    queue: QueueCapabilities | None = None
    store: StoreCapabilities | None = None
    cache: CacheCapabilities | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecManifest:
    """What a codec plugin ships under its entry point of the group `brrr.codecs`.

    Attributes:
        contract: The contract version that the plugin was written for.
        name: The codec's name, the same as the entry point's.
        summary: One line for listings.
        codec: Where the codec is, as `module:callable`; called without arguments, it gives a `Codec`.
    """

    contract: int
    name: str
    summary: str
    codec: str
