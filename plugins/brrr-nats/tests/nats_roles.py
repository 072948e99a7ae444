"""Store and cache on a server without the rest of a backend, for tests of what they send."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from brrr_core.backend import parse_url
from brrr_nats.cache import NatsCache
from brrr_nats.client.requests import RequestClient
from brrr_nats.location import location_of
from brrr_nats.options import NatsOptions
from brrr_nats.store.store import NatsStore


class Roles(NamedTuple):
    client: RequestClient
    store: NatsStore
    cache: NatsCache


@asynccontextmanager
async def opened(
    url: str,
    *,
    marker_ttl: int = 1,
    cache_bytes: int = 1 << 20,
    stale_timeout: float = 30,
    setup: bool = False,
    ttl: float | None = None,
    **options: Any,
) -> AsyncIterator[Roles]:
    """Connect, see that the streams are there, and give the roles. `ttl` may be shorter than a user's."""
    given = NatsOptions(**options)
    object.__setattr__(given, "ttl", ttl)
    client = RequestClient(location_of(parse_url(url).url, given), given)
    try:
        await client.connect()
        roles = Roles(
            client,
            NatsStore(client, given, marker_ttl=marker_ttl, cache_bytes=cache_bytes, stale_timeout=stale_timeout),
            NatsCache(client, given),
        )
        await roles.store.prepare(change=setup)
        await roles.cache.prepare(change=setup)
        yield roles
    finally:
        await client.close()


async def messages(client: RequestClient, stream: str) -> dict[str, int]:
    """Return the number of messages of each subject of a stream."""
    state = (await client.call_api(f"STREAM.INFO.{stream}", {"subjects_filter": ">"}))["state"]
    return state.get("subjects") or {}


async def forbid_direct(client: RequestClient, bucket: str) -> None:
    """Let a bucket be read only from its leader, like a bucket on several servers."""
    config = (await client.call_api(f"STREAM.INFO.KV_{bucket}"))["config"]
    await client.call_api(f"STREAM.UPDATE.KV_{bucket}", {**config, "allow_direct": False})
