"""Open the queue and the store that a command line names. Operators can work without a store."""

import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from brrr_core.backend.contracts import Queue, Store
from brrr_core.cli.options import Urls
from brrr_core.cli.output import note
from brrr_core.errors import BackendError, RoleError, UrlError
from brrr_core.plugins import open_backend, resolve_roles
from brrr_core.plugins.roles import VARIABLES

__all__ = ["named_urls", "open_queue", "open_queue_and_store"]


def named_urls(urls: Urls) -> list[str]:
    """Return the distinct URLs of the command line and the environment: queue, store, cache."""
    named = [urls.queue, urls.store, urls.cache]
    found = [url or os.environ.get(variable) for url, variable in zip(named, VARIABLES.values(), strict=True)]
    return list(dict.fromkeys(url for url in found if url))


@asynccontextmanager
async def open_queue(urls: Urls) -> AsyncGenerator[Queue, None]:
    """Open only the queue.

    Raises:
        UrlError: No queue is named, or its URL is invalid.
        RoleError: The backend is not a queue.
        BackendError: The backend cannot be opened.
    """
    url = urls.queue or os.environ.get(VARIABLES["queue"])
    if not url:
        raise UrlError("no queue is named", remedy="Pass --queue with a URL like sqlite:///brrr.db, or set BRRR_QUEUE.")
    async with open_backend(url) as backend:
        yield backend.queue


@asynccontextmanager
async def open_queue_and_store(urls: Urls) -> AsyncGenerator[tuple[Queue, Store | None], None]:
    """Open the queue, and the store if it answers. If it does not, write a note with the reason.

    Raises:
        BrrrError: As `open_queue` does.
    """
    async with AsyncExitStack() as stack:
        try:
            roles = resolve_roles(urls.queue, urls.store, urls.cache)
        except RoleError as error:
            queue = await stack.enter_async_context(open_queue(urls))
            note(f"without the store: {error}")
            yield queue, None
            return
        opened = await stack.enter_async_context(roles.queue)
        store: Store | None = None
        if roles.store is roles.queue:
            store = roles.store.store
        else:
            roles.store.retry_for = 0  # the command works without the store
            try:
                store = (await stack.enter_async_context(roles.store)).store
            except BackendError as error:
                note(f"without the store: {error}")
        yield opened.queue, store
