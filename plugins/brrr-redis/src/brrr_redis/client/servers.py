"""Checks of a server: its version, and whether it keeps its data."""

from collections.abc import Mapping
from typing import Final

from redis.exceptions import RedisError

from brrr_core.errors import BackendError, BackendUnavailableError, BrrrError
from brrr_redis.client.client import Client, gather
from brrr_redis.client.commands import command
from brrr_redis.client.routing import SingleServerRouter
from brrr_redis.location import Address

__all__ = ["check_servers", "describe", "eviction"]

MIN_VERSION: Final = (6, 2)
"""Redis 6.2 has BLMOVE, LMOVE and LPOP with a count. The first Valkey, 7.2, reports itself as Redis 7.2."""

WARNING: Final = "warning: "


async def check_servers(client: Client, server: str, *, evict: bool) -> list[str]:
    """Check the version and the eviction policy of each primary. Return a warning for each that may evict keys.

    A server that is unavailable, or that does not answer INFO, passes.

    Args:
        client: Connected to the servers.
        server: The servers that the URL names, for error messages.
        evict: Whether a server may evict.

    Raises:
        BackendError: A server is older than Redis 6.2, or may evict keys.
    """
    try:
        primaries = await client.router.primaries()
    except (RedisError, OSError):  # during a failover, for example: the first operation retries and raises the error
        return []
    warnings: list[str] = []
    for info in await gather(_info_or_empty(client, primary) for primary in primaries):
        _check_version(info, server)
        if info:
            said = eviction(info, server, evict=evict)
            warnings += [said.removeprefix(WARNING)] if said.startswith(WARNING) else []
    return warnings


def _check_version(info: Mapping[str, str], server: str) -> str:
    """Return the server's name and version, empty if INFO does not contain them.

    Raises:
        BackendError: The server is older than Redis 6.2.
    """
    version = info.get("redis_version", "")
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if parts and parts < MIN_VERSION:
        raise BackendError(
            f"redis at {server} has version {version}, which lacks the command BLMOVE",
            remedy="Use Redis 6.2 or newer, or Valkey 7.2 or newer.",
        )
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {version}" if version else ""


async def describe(client: Client, *, evict: bool) -> list[str]:
    """Return lines about each primary: its version, its eviction, and its persistence.

    Args:
        client: Connected to the servers.
        evict: Whether a server may evict.

    Raises:
        BackendError: A server is too old, or may evict keys.
        BackendUnavailableError: A server is not reachable.
    """
    lines: list[str] = []
    for primary in await client.router.primaries():
        lines += await _describe(client.of(primary), str(primary), evict=evict)
    return lines


async def _info_or_empty(client: Client, primary: Address) -> dict[str, str]:
    only = Client(SingleServerRouter(client.router.pool, primary), str(primary), retry_for=0)
    try:
        return await _info(only)
    except BackendUnavailableError:
        return {}


async def _describe(client: Client, server: str, *, evict: bool) -> list[str]:
    info = await _info(client)
    version = _check_version(info, server)
    lines = [f"{version or 'a server that does not report its version'} at {server}"]
    lines.append(eviction(info, server, evict=evict))
    lines.append(_persistence(info, await _save(client)))
    return lines


def eviction(info: Mapping[str, str], server: str, *, evict: bool) -> str:
    """Return a line about the eviction of a server.

    Raises:
        BackendError: The server may evict keys, and `evict` is false.
    """
    try:
        line = _check_eviction(info, server)
    except BackendError as error:
        if not evict:
            raise
        line = f"{WARNING}{error.what}; eviction=allow permits it"
    evicted = info.get("evicted_keys", "0")
    if evicted == "0":
        return line
    return f"{WARNING}redis at {server} has evicted {evicted} keys since it started; {line.removeprefix(WARNING)}"


def _check_eviction(info: Mapping[str, str], server: str) -> str:
    policy, limit = info.get("maxmemory_policy", ""), info.get("maxmemory", "")
    if not policy:
        return "warning: the server does not report its maxmemory-policy; only noeviction keeps all data"
    if policy == "noeviction":
        return "maxmemory-policy noeviction: a full server refuses new data and keeps what it has"
    if limit not in ("", "0"):
        raise BackendError(
            f"redis at {server} has maxmemory-policy {policy}: when it is full, it evicts messages and values",
            remedy="Set maxmemory-policy noeviction with CONFIG SET and in the configuration file, or accept"
            " the loss with eviction=allow in the URL.",
        )
    return (
        f"warning: maxmemory-policy {policy} evicts data when the server is full; set noeviction"
        f" (maxmemory is {limit or 'not reported'})"
    )


def _persistence(info: dict[str, str], save: str | None) -> str:
    if info.get("aof_enabled") == "1":
        return (
            "appendonly yes: with appendfsync always, acknowledged writes survive a power failure; with everysec,"
            " the default, it loses the last second"
        )
    if save or save is None:
        return (
            "warning: appendonly no: a crash of the server loses all data since the last snapshot"
            f" ({'save ' + save if save else 'the server does not report its schedule'}); set appendonly yes"
        )
    return "warning: appendonly no and no save: a restart of the server loses all data; set appendonly yes"


async def _save(client: Client) -> str | None:
    """Return the schedule of snapshots, or None if the server does not report it."""
    try:
        found = await client.run(command(b"", "CONFIG", "GET", "save", repeat=True))
    except BrrrError:  # managed services forbid CONFIG
        return None
    return found[1].decode() if found else None


async def _info(client: Client) -> dict[str, str]:
    """Return the fields of INFO, or none if the login may not run it."""
    try:
        text: bytes = await client.run(command(b"", "INFO", repeat=True))
    except BackendError as error:
        if (
            type(error) is not BackendError
        ):  # a subclass means that the server is unavailable, not that a permission is missing
            raise
        return {}
    pairs = (line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    return {name: value.strip() for name, value in pairs}
