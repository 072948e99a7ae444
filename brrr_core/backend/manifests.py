"""What a backend says of itself, before anything of it is imported: its manifest.

A manifest lives in a module that imports no client library, so that listing plugins, telling what is wrong with one,
and choosing among many cost nothing. An entry point of the group `brrr.backends` names it; the entry point's name is
the URL scheme.
"""

from dataclasses import dataclass, field

__all__ = [
    "BackendManifest",
    "CacheCapabilities",
    "NoOptions",
    "QueueCapabilities",
    "StoreCapabilities",
]


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
        options: A frozen dataclass: one field an option, with a default, of a type that a URL's text can be read as
            (`brrr_core.backend.options` has some).
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
