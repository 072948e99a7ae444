"""The manifest of a backend: its description, which is read before the backend is imported.

The module of a manifest imports no client library, so plugins can be listed, checked and chosen cheaply. An entry point
of the group `brrr.backends` names the manifest. The name of the entry point is the URL scheme.
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
    """The capabilities of a queue.

    The contract kit tests every declared capability. It also tests that an operation refuses an undeclared one.

    Attributes:
        durable: A message survives the end of every process of brrr, once `put` has returned.
        shared: Several processes on one URL see the same queue.
        delay: `put` and `release` accept a positive delay.
        ordered: One producer's messages reach one consumer in the order of their puts, if none is released. Dead
            letters that are redriven follow in the order in which they were buried.
        max_body: The largest body, in bytes.
        resolution: Seconds to whose next multiple the backend rounds a delay or a lease up. 0 if it does not round.
        exact_stats: `stats` counts exactly. A server whose figures are approximate, or late, needs False.
        server_clock: Leases and delays end by a clock that all processes of the queue share, such as the server's. It
            is False if a process with a wrong wall clock can end them at a wrong time.
    """

    durable: bool
    shared: bool
    delay: bool
    ordered: bool = False
    max_body: int
    resolution: float = 0.0
    exact_stats: bool = True
    server_clock: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCapabilities:
    """The capabilities of a store.

    Attributes:
        durable: A record survives the end of every process of brrr, once `write` or `swap` has returned.
        shared: Several processes on one URL see the same store.
        max_value: The largest value, in bytes.
    """

    durable: bool
    shared: bool
    max_value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCapabilities:
    """The capabilities of a cache.

    Attributes:
        durable: Counters survive the end of every process of brrr.
        shared: Several processes on one URL see the same counters.
    """

    durable: bool
    shared: bool


@dataclass(frozen=True, slots=True)
class NoOptions:
    """The schema of a backend without options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendManifest:
    """The object that a backend plugin names in its entry points.

    Attributes:
        contract: The contract version for which the plugin was written. Write a literal, not `CONTRACT_VERSION`.
        schemes: The URL schemes that it claims, each an entry point of the group `brrr.backends`.
        summary: One line for `brrr backends`.
        example: A URL as a user would write it.
        backend: The location of the backend, as `module:callable`. Called with a `BackendUrl` and an instance of
            `options`, it returns a `Backend` that is not open.
        options: A frozen dataclass with one field per option, each with a default. The type of a field is `str`, `int`,
            `float`, `bool`, a `Literal` of texts or numbers, an `Enum`, `Duration`, `Size`, `Secret` or `object`, with
            or without `| None`. Only a keyword argument of `open_backend` can give an `object`, such as a client.
        queue: The capabilities of the queue, or None if the backend does not offer this role.
        store: The capabilities of the store, or None if the backend does not offer this role.
        cache: The capabilities of the cache, or None if the backend does not offer this role.
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
