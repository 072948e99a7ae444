"""What a server says of itself, and whether brrr's data is safe with it."""

from typing import Final

from brrr_core.errors import BackendError, BrrrError
from brrr_redis.client import Client
from brrr_redis.commands import command
from brrr_redis.routes import SingleRoutes

__all__ = ["check_version", "describe"]

OLDEST: Final = (6, 2)
"""BLMOVE, LMOVE and LPOP with a count came with Redis 6.2. Valkey began as 7.2, and calls itself Redis 7.2."""


async def check_version(client: Client, where: str) -> str:
    """The server's name and version, empty where it does not tell.

    Raises:
        BackendError: It is older than Redis 6.2.
    """
    told = await _info(client, "server")
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


async def describe(client: Client, *, retry_for: float) -> list[str]:
    """Each primary's version, how it keeps data, and what that means, a line each.

    Args:
        client: Connected to the servers.
        retry_for: Seconds for which each of them is asked again.

    Raises:
        BackendError: One is too old; or throws data away when it is full.
        BackendUnavailableError: One is not there.
    """
    lines: list[str] = []
    for primary in await client.routes.primaries():
        only = Client(SingleRoutes(client.routes.links, primary), str(primary), retry_for=retry_for)
        lines += await _describe(only, str(primary))
    return lines


async def _describe(client: Client, where: str) -> list[str]:
    lines = [f"{await check_version(client, where) or 'a server that does not tell its version'} at {where}"]
    memory = await _info(client, "memory")
    lines.append(_evicts(memory.get("maxmemory_policy", ""), memory.get("maxmemory", ""), where))
    lines.append(_persists(await _info(client, "persistence"), await _save(client)))
    return lines


def _evicts(policy: str, limit: str, where: str) -> str:
    if not policy:
        return "warning: it does not tell its maxmemory-policy; only noeviction keeps what was stored"
    if policy == "noeviction":
        return "maxmemory-policy noeviction: what was stored stays; a full server refuses instead"
    if policy.startswith("allkeys") and limit not in ("", "0"):
        raise BackendError(
            f"redis at {where} has maxmemory-policy {policy}: when it is full, it throws away messages and values",
            remedy="Set maxmemory-policy noeviction (CONFIG SET, and in its configuration file).",
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


async def _info(client: Client, section: str) -> dict[str, str]:
    try:
        text: bytes = await client.run(command(b"", "INFO", section, repeat=True))
    except BackendError as error:
        if type(error) is not BackendError:  # the server is not there: that is another matter than not being allowed to
            raise
        return {}
    pairs = (line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    return {name: value.strip() for name, value in pairs}
