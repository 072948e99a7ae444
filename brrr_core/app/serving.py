"""Open a connection from URLs: `serve` for workers, `connect` for clients."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from brrr_core.backend.contracts import Cache, Queue, Store
from brrr_core.backend.lifecycle import Backend
from brrr_core.engine import termination
from brrr_core.engine.connection import Connection
from brrr_core.engine.outages import ROLES
from brrr_core.engine.policy import Policy
from brrr_core.plugins import load_hooks, resolve_roles

__all__ = ["connect", "serve"]


@asynccontextmanager
async def serve(
    queue: str | Backend | Queue | None = None,
    store: str | Backend | Store | None = None,
    cache: str | Backend | Cache | None = None,
    *,
    policy: Policy | None = None,
    hooks: Iterable[object] = (),
) -> AsyncGenerator[Connection, None]:
    """Open the backends of a fleet for a worker: `async with brrr.serve("sqlite:///brrr.db") as conn`.

    Args:
        queue: A URL, an open backend or an open queue; by default the environment variable BRRR_QUEUE.
        store: The same for the store; by default BRRR_STORE, or else the backend of the queue.
        cache: The same for the cache; by default BRRR_CACHE, or else the backend of the queue, or else of the store.
        policy: Limits, retries and timeouts.
        hooks: Hook plugins, in addition to the installed ones.

    Raises:
        UrlError: A URL is not valid, or none is given.
        OptionError: An option of a URL is wrong.
        PluginError: A plugin is missing, broken, or does not offer the role.
        BackendError: A backend cannot be opened.
    """
    installed = [found.plugin for found in load_hooks()]
    async with _opened(queue, store, cache, policy, (*installed, *hooks)) as connection:
        yield connection


@asynccontextmanager
async def connect(
    queue: str | Backend | Queue | None = None,
    store: str | Backend | Store | None = None,
    cache: str | Backend | Cache | None = None,
    *,
    policy: Policy | None = None,
) -> AsyncGenerator[Connection, None]:
    """Open the backends of a fleet for a client, which schedules calls and reads results.

    The arguments and errors are those of `serve`, without hooks.
    """
    async with _opened(queue, store, cache, policy, ()) as connection:
        yield connection


@asynccontextmanager
async def _opened(
    queue: str | Backend | Queue | None,
    store: str | Backend | Store | None,
    cache: str | Backend | Cache | None,
    policy: Policy | None,
    hooks: Iterable[object],
) -> AsyncGenerator[Connection, None]:
    roles = resolve_roles(queue, store, cache)
    parts = (roles.queue, roles.store, roles.cache)
    names = [_named([role for role, other in zip(ROLES, parts, strict=True) if other is part]) for part in parts]
    async with AsyncExitStack() as stack:
        stack.enter_context(termination.interruptible())
        for backend in roles.owned:
            await stack.enter_async_context(backend)
        manifest = roles.queue.manifest
        connection = Connection(
            roles.queue.queue,
            roles.store.store,
            roles.cache.cache,
            steps=roles.queue.steps if roles.queue is roles.store is roles.cache else None,
            policy=policy,
            hooks=hooks,
            delays=manifest is None or manifest.queue is None or manifest.queue.delay,
            mask=roles.mask,
            backends=names,
        )
        for name, backend in dict(zip(names, parts, strict=True)).items():
            connection.warn(name, backend.warnings)
        stack.push_async_callback(connection.close)
        yield connection


def _named(roles: Sequence[str]) -> str:
    """Return the name of the backend that has these roles: "queue, store and cache"."""
    return " and ".join(part for part in (", ".join(roles[:-1]), roles[-1]) if part)
