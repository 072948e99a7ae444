"""The options that commands share, the types of their values, and the backends that they open.

Operators can work without a store.
"""

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias

from cyclopts import Parameter, Token
from cyclopts.validators import Number

from brrr_cli.output import note
from brrr_core import open_backend
from brrr_core.backend import Duration, Queue, Size, Store
from brrr_core.errors import BackendError, RoleError, UrlError
from brrr_core.plugins import resolve_roles
from brrr_core.plugins.roles import VARIABLES
from brrr_core.plugins.values import convert, describe, split_optional

__all__ = [
    "NO_URLS",
    "AsJson",
    "CodecName",
    "Count",
    "DurationOption",
    "OptionalDuration",
    "Quiet",
    "SizeOption",
    "Timeout",
    "Tokens",
    "Topic",
    "Urls",
    "Verbose",
    "Yes",
    "named_urls",
    "open_queue",
    "open_queue_and_store",
]


def _with_unit(kind: Any, tokens: Sequence[Token]) -> object:
    kind, _ = split_optional(kind)
    try:
        return convert(kind, tokens[0].value)
    except ValueError as error:
        form, example = describe(kind)
        raise ValueError(f"{tokens[0].value!r} is not {form}; write it like {example}") from error


AsJson: TypeAlias = Annotated[
    bool, Parameter(name="--json", negative=(), show_default=False, help="Write JSON for machines, including errors.")
]
"""The option `--json`: write JSON for machines, including errors."""
Verbose: TypeAlias = Annotated[
    bool,
    Parameter(name=("--verbose", "-v"), negative=(), show_default=False, help="Show more details and tracebacks."),
]
"""The option `-v`: show more details and tracebacks."""
Quiet: TypeAlias = Annotated[
    bool, Parameter(name=("--quiet", "-q"), negative=(), show_default=False, help="Show only failures.")
]
"""The option `-q`: show only failures."""
CodecName: TypeAlias = Annotated[
    str, Parameter(name="--codec", env_var="BRRR_CODEC", help="The encoding of arguments and results.")
]
"""The option `--codec`: the name of a codec, or `BRRR_CODEC`."""
Topic: TypeAlias = Annotated[str, Parameter(help="The name of the queue.")]
"""The name of a topic."""
DurationOption: TypeAlias = Annotated[Duration, Parameter(converter=_with_unit, show_default=lambda it: f"{it:g}s")]
"""A time in seconds, like `30s`."""
Timeout: TypeAlias = Annotated[
    Duration | None,
    Parameter(converter=_with_unit, show_default=False, help="The longest wait, like 30s; implies --wait."),
]
OptionalDuration: TypeAlias = Annotated[Duration | None, Parameter(converter=_with_unit, show_default=False)]
"""A time in seconds, like `30s`, or none."""
Yes: TypeAlias = Annotated[bool, Parameter(name=("--yes", "-y"), negative=(), show_default=False, help="Do not ask.")]
"""The option `--yes`: do not ask."""
SizeOption: TypeAlias = Annotated[Size, Parameter(converter=_with_unit, show_default=lambda it: f"{it / 1024:g}KiB")]
"""A number of bytes, like `64KiB`."""
Count: TypeAlias = Annotated[int, Parameter(validator=Number(gte=1))]
"""An integer from 1."""
Tokens: TypeAlias = Annotated[tuple[str, ...], Parameter(parse=False)]
"""The whole command line, passed to a command that needs it."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Urls:
    """The URLs of the backends.

    Attributes:
        queue: URL of the queue.
        store: URL of the store; by default the queue's backend.
        cache: URL of the cache; by default the queue's backend, or the store's if the queue's has no cache.
    """

    queue: Annotated[str | None, Parameter(env_var="BRRR_QUEUE")] = None
    store: Annotated[str | None, Parameter(env_var="BRRR_STORE")] = None
    cache: Annotated[str | None, Parameter(env_var="BRRR_CACHE")] = None


NO_URLS: Final = Urls()
"""No URL on the command line: the default of a parameter of type `Urls`."""


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
