"""The store role and the cache role: records under keys, and counters."""

from collections.abc import Mapping, Sequence
from typing import Final

from brrr_core.backend import Cache, Key, Store, Swap
from brrr_core.backend.checks import check_values
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
    """One command a batch; in a cluster one for each slot, all sent together.

    Args:
        client: Runs the commands.
        layout: Names the keys.
        ttl: Milliseconds that a call and its value are kept after the value was written, 0 forever. The records of a
            call without a value do not expire: another call may wait for it.
    """

    def __init__(self, client: Client, layout: Layout, *, ttl: int) -> None:
        self._client = client
        self._layout = layout
        self._ttl = ttl

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Look keys up."""
        names = [self._layout.record(key) for key in keys]
        groups = [[names[place] for place in places] for places in self._client.router.groups(names)] if names else []
        commands = [command(group[0], "MGET", *group, repeat=True) for group in groups]
        return await self._in_order(names, commands)

    async def write(self, items: Sequence[tuple[Key, bytes]]) -> None:
        """Set keys.

        A write whose answer was lost is repeated only where it writes nothing but calls: whoever writes the call of a
        hash writes the same. Another record may have been changed by others meanwhile.
        """
        check_values((value for _, value in items), MAX_VALUE)
        names = [self._layout.record(key) for key, _ in items]
        commands: list[Command] = []
        for places in self._client.router.groups(names) if names else ():
            safe = all(items[place][0].kind == "call" for place in places)
            if self._ttl and not safe:
                marked = [mark for place in places for mark in (self._ttl_of(items[place][0]), items[place][1])]
                commands.append(
                    script_command(WRITE, [names[place] for place in places], *marked, retry_arguments=None)
                )
            else:
                words = (word for place in places for word in (names[place], items[place][1]))
                commands.append(command(names[places[0]], "MSET", *words, repeat=safe))
        await self._client.run_all(commands)

    async def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Compare and set, one after the other. Never repeated: a second try would find the first one's work."""
        check_values((new for _, _, new in swaps), MAX_VALUE)
        names = [self._layout.record(key) for key, _, _ in swaps]
        commands: list[Command] = []
        for places in self._client.router.groups(names) if names else ():
            marked = [
                mark
                for key, expected, new in (swaps[place] for place in places)
                for mark in (self._ttl_of(key), _encode_optional(expected), _encode_optional(new))
            ]
            commands.append(script_command(SWAP, [names[place] for place in places], *marked, retry_arguments=None))
        finished = [self._layout.record(Key("call", key.call_hash)) for key, _, _ in swaps if self._ttl_of(key)]
        ends = [command(name, "PEXPIRE", name, self._ttl, repeat=True) for name in finished]
        return [done == 1 for done in await self._in_order(names, commands, ends)]

    def _ttl_of(self, key: Key) -> int:
        """Milliseconds after which a record expires, 0 for never."""
        return self._ttl if key.kind == "value" else 0

    async def _in_order(
        self, names: Sequence[bytes], commands: Sequence[Command], others: Sequence[Command] = ()
    ) -> list[Reply]:
        """The answers to commands about `groups` of the names, in the order of the names. Sends `others` with them."""
        answers = (await self._client.run_all([*commands, *others]))[: len(commands)]
        if len(answers) == 1:
            return list(answers[0])
        found: list[Reply] = [None] * len(names)
        for places, answer in zip(self._client.router.groups(names) if names else (), answers, strict=True):
            for place, each in zip(places, answer, strict=True):
                found[place] = each
        return found


class RedisCache(Cache):
    """Counters of 64 bits, forgotten when nobody has counted for long.

    Args:
        client: Runs the commands.
        layout: Names the keys.
        ttl: Milliseconds that a counter is kept after it was counted last.
    """

    def __init__(self, client: Client, layout: Layout, *, ttl: int) -> None:
        self._client = client
        self._layout = layout
        self._ttl = ttl

    async def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        """Add to counters.

        An increment whose answer was lost is repeated, and may count twice: as the message that it counts, which is
        then put twice.
        """
        for name, amount in amounts.items():
            if amount not in INT64:
                raise ArgumentError(f"{amount} for counter {name!r} has more than 64 bits", remedy="Count by less.")
        counters = list(amounts)
        names = [self._layout.counter(name) for name in counters]
        groups = list(self._client.router.groups(names)) if names else []
        commands = [
            script_command(
                INCREMENT,
                [names[place] for place in places],
                self._ttl,
                *(amounts[counters[place]] for place in places),
            )
            for places in groups
        ]
        answers = await self._client.run_all(commands)
        counts = {
            counters[place]: int(count)
            for places, answer in zip(groups, answers, strict=True)
            for place, count in zip(places, answer, strict=True)
        }
        return {name: counts[name] for name in counters}


def _encode_optional(value: bytes | None) -> bytes:
    """How the script is told of a value, or of its absence."""
    return b"-" if value is None else b"+" + value
