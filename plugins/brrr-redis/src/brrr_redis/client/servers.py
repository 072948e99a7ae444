"""What a server says of itself, and whether brrr's data is safe with it."""

import asyncio
from collections.abc import Mapping
from typing import Final

from redis.exceptions import RedisError

from brrr_core.errors import BackendError, BackendUnavailableError, BrrrError
from brrr_redis.client.client import Client
from brrr_redis.client.commands import command
from brrr_redis.client.routing import SingleServerRouter
from brrr_redis.location import Address

__all__ = ["check_servers", "describe"]

OLDEST: Final = (6, 2)
"""BLMOVE, LMOVE and LPOP with a count came with Redis 6.2. Valkey began as 7.2, and calls itself Redis 7.2."""


async def check_servers(client: Client, where: str, *, evict: bool) -> None:
    """Check each primary's version, and that it evicts nothing. A server that is not there or does not tell is let be.

    Args:
        client: Connected to the servers.
        where: The URL's servers, for errors.
        evict: Whether a server may evict.

    Raises:
        BackendError: One is older than Redis 6.2, or may evict keys.
    """
    try:
        primaries = await client.router.primaries()
    except (RedisError, OSError):  # as after a failover: the first operation tries again, and tells
        return
    for told in await asyncio.gather(*(_info_or_empty(client, primary) for primary in primaries)):
        _check_version(told, where)
        if not evict:
            _evicts(told, where)


def _check_version(told: Mapping[str, str], where: str) -> str:
    """Return the server's name and version, empty if it does not tell.

    Raises:
        BackendError: It is older than Redis 6.2.
    """
    version = told.get("redis_version", "")
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if parts and parts < OLDEST:
        raise BackendError(
            f"redis at {where} has version {version}, which lacks BLMOVE",
            remedy="Use Redis 6.2 or newer, or Valkey 7.2 or newer.",
        )
    if "valkey_version" in told:
        return f"Valkey {told['valkey_version']}"
    return f"Redis {version}" if version else ""


async def describe(client: Client, *, retry_for: float, evict: bool) -> list[str]:
    """Return each primary's version, how it keeps data, and what that means, a line each.

    Args:
        client: Connected to the servers.
        retry_for: Seconds for which each of them is asked again.
        evict: Whether a server may evict.

    Raises:
        BackendError: One is too old, or may evict keys.
        BackendUnavailableError: One is not there.
    """
    lines: list[str] = []
    for primary in await client.router.primaries():
        only = Client(SingleServerRouter(client.router.pool, primary), str(primary), retry_for=retry_for)
        lines += await _describe(only, str(primary), evict=evict)
    return lines


async def _info_or_empty(client: Client, primary: Address) -> dict[str, str]:
    only = Client(SingleServerRouter(client.router.pool, primary), str(primary), retry_for=0)
    try:
        return await _info(only)
    except BackendUnavailableError:
        return {}


async def _describe(client: Client, where: str, *, evict: bool) -> list[str]:
    told = await _info(client)
    lines = [f"{_check_version(told, where) or 'a server that does not tell its version'} at {where}"]
    try:
        lines.append(_evicts(told, where))
    except BackendError as error:
        if not evict:
            raise
        lines.append(f"warning: {error.what}; eviction=allow allows it")
    lines.append(_persists(told, await _save(client)))
    return lines


def _evicts(told: Mapping[str, str], where: str) -> str:
    policy, limit = told.get("maxmemory_policy", ""), told.get("maxmemory", "")
    if not policy:
        return "warning: it does not tell its maxmemory-policy; only noeviction keeps what was stored"
    if policy == "noeviction":
        return "maxmemory-policy noeviction: what was stored stays; a full server refuses instead"
    if limit not in ("", "0"):
        raise BackendError(
            f"redis at {where} has maxmemory-policy {policy}: when it is full, it throws away messages and values",
            remedy="Set maxmemory-policy noeviction (CONFIG SET, and in its configuration file), or allow the loss with"
            " eviction=allow in the URL.",
        )
    return (
        f"warning: maxmemory-policy {policy} throws data away when the server is full; set noeviction"
        f" (maxmemory is {limit or 'not told'})"
    )


def _persists(told: dict[str, str], save: str | None) -> str:
    if told.get("aof_enabled") == "1":
        return (
            "appendonly yes: what was answered survives a crash of the server, with appendfsync always; with everysec,"
            " as it comes, a power cut takes the last second"
        )
    if save or save is None:
        return (
            "warning: appendonly no: a crash of the server takes all since its last snapshot"
            f" ({'save ' + save if save else 'when that is, it does not tell'}); set appendonly yes"
        )
    return "warning: appendonly no and no save: a restart of the server takes everything; set appendonly yes"


async def _save(client: Client) -> str | None:
    """When snapshots are made; None where the server does not tell."""
    try:
        found = await client.run(command(b"", "CONFIG", "GET", "save", repeat=True))
    except BrrrError:  # managed servers have no CONFIG
        return None
    return found[1].decode() if found else None


async def _info(client: Client) -> dict[str, str]:
    """Return what a server tells of itself; nothing if this client may not ask."""
    try:
        text: bytes = await client.run(command(b"", "INFO", repeat=True))
    except BackendError as error:
        if type(error) is not BackendError:  # the server is not there: that is another matter than not being allowed to
            raise
        return {}
    pairs = (line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    return {name: value.strip() for name, value in pairs}
