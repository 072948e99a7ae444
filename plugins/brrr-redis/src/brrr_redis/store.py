"""The store and the cache: records under keys, and counters."""

from collections.abc import Mapping, Sequence
from typing import Final

from brrr_core.backend import Cache, Key, Store, Swap, check_values
from brrr_core.errors import ArgumentError
from brrr_redis.client.client import Client
from brrr_redis.client.commands import Command, command, script_command
from brrr_redis.client.connection import Reply
from brrr_redis.layout import Layout
from brrr_redis.options import MAX_VALUE
from brrr_redis.scripts import INCREMENT, SWAP, WRITE

__all__ = ["RedisCache", "RedisStore"]

INT64: Final = range(-(2**63), 2**63)


class RedisStore(Store):
    """A store whose every operation is one command; in a cluster, one for each slot, all sent together.

    Args:
        client: Runs the commands.
        layout: Makes the names of keys.
        ttl: Milliseconds that a call and its value stay after the value is written; 0 for no limit. The records of a
            call without a value do not expire, because another call may wait for it.
    """

    def __init__(self, client: Client, layout: Layout, *, ttl: int) -> None:
        self._client = client
        self._layout = layout
        self._ttl = ttl

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Read records."""
        names = [self._layout.record(key) for key in keys]
        groups = [[names[index] for index in indexes] for indexes in self._client.router.groups(names)] if names else []
        commands = [command(group[0], "MGET", *group, repeat=True) for group in groups]
        return await self._in_order(names, commands)

    async def write(self, items: Sequence[tuple[Key, bytes]]) -> None:
        """Write records.

        If the reply is lost, repeat the write only if all its records are calls: every writer of a call hash writes
        the same bytes. Another worker may have changed records of other kinds in the meantime.
        """
        check_values((value for _, value in items), MAX_VALUE)
        names = [self._layout.record(key) for key, _ in items]
        commands: list[Command] = []
        for indexes in self._client.router.groups(names) if names else ():
            safe = all(items[index][0].kind == "call" for index in indexes)
            if self._ttl and not safe:
                arguments = [
                    argument for index in indexes for argument in (self._ttl_of(items[index][0]), items[index][1])
                ]
                commands.append(
                    script_command(WRITE, [names[index] for index in indexes], *arguments, retry_arguments=None)
                )
            else:
                words = (word for index in indexes for word in (names[index], items[index][1]))
                commands.append(command(names[indexes[0]], "MSET", *words, repeat=safe))
        await self._client.run_all(commands)

    async def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Compare and set records, one after the other. Never repeat: a repeat would compare with its own result."""
        check_values((new for _, _, new in swaps), MAX_VALUE)
        names = [self._layout.record(key) for key, _, _ in swaps]
        commands: list[Command] = []
        for indexes in self._client.router.groups(names) if names else ():
            arguments = [
                argument
                for key, expected, new in (swaps[index] for index in indexes)
                for argument in (self._ttl_of(key), _encode_optional(expected), _encode_optional(new))
            ]
            commands.append(script_command(SWAP, [names[index] for index in indexes], *arguments, retry_arguments=None))
        calls = [self._layout.record(Key("call", key.call_hash)) for key, _, _ in swaps if self._ttl_of(key)]
        expirations = [command(name, "PEXPIRE", name, self._ttl, repeat=True) for name in calls]
        return [done == 1 for done in await self._in_order(names, commands, expirations)]

    def _ttl_of(self, key: Key) -> int:
        """Return the milliseconds after which a record expires, 0 for never."""
        return self._ttl if key.kind == "value" else 0

    async def _in_order(
        self, names: Sequence[bytes], commands: Sequence[Command], others: Sequence[Command] = ()
    ) -> list[Reply]:
        """Run one command for each group of names, and `others` with them. Return the replies in the order of names."""
        replies = (await self._client.run_all([*commands, *others]))[: len(commands)]
        if len(replies) == 1:
            return list(replies[0])
        found: list[Reply] = [None] * len(names)
        for indexes, reply in zip(self._client.router.groups(names) if names else (), replies, strict=True):
            for index, each in zip(indexes, reply, strict=True):
                found[index] = each
        return found


class RedisCache(Cache):
    """Counters of 64 bits, which expire after their last increment.

    Args:
        client: Runs the commands.
        layout: Makes the names of keys.
        ttl: Milliseconds that a counter stays after its last increment.
    """

    def __init__(self, client: Client, layout: Layout, *, ttl: int) -> None:
        self._client = client
        self._layout = layout
        self._ttl = ttl

    async def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        """Add to counters.

        If the reply is lost, repeat the increment. It may then count twice, like the message that it counts, which may
        be put twice.
        """
        for name, amount in amounts.items():
            if amount not in INT64:
                raise ArgumentError(
                    f"the amount {amount} for counter {name!r} has more than 64 bits",
                    remedy="Use an amount of 64 bits.",
                )
        counters = list(amounts)
        names = [self._layout.counter(name) for name in counters]
        groups = list(self._client.router.groups(names)) if names else []
        commands = [
            script_command(
                INCREMENT,
                [names[index] for index in indexes],
                self._ttl,
                *(amounts[counters[index]] for index in indexes),
            )
            for indexes in groups
        ]
        replies = await self._client.run_all(commands)
        counts = {
            counters[index]: int(count)
            for indexes, reply in zip(groups, replies, strict=True)
            for index, count in zip(indexes, reply, strict=True)
        }
        return {name: counts[name] for name in counters}


def _encode_optional(value: bytes | None) -> bytes:
    """Encode a value for the script: `+` and the value, or `-` for no value."""
    return b"-" if value is None else b"+" + value
