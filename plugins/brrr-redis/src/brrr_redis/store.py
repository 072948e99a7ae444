"""The store and the cache: records under keys, and counters."""

from collections.abc import Mapping, Sequence

from brrr_core.backend import (
    REFRESH_SHARE,
    Cache,
    CallExpirer,
    Key,
    Notifier,
    Store,
    Swap,
    call_record_of,
    check_amounts,
    check_items,
    check_keys,
    check_swaps,
    is_awaited,
    may_expire,
)
from brrr_redis.client.client import Client
from brrr_redis.client.commands import Command, command, script_command
from brrr_redis.client.connection import Reply
from brrr_redis.layout import Layout
from brrr_redis.notifier import RedisNotifier
from brrr_redis.options import MAX_VALUE
from brrr_redis.scripts import INCREMENT, READ, SWAP, WRITE

__all__ = ["RedisCache", "RedisStore", "encode_optional"]


class RedisStore(Store):
    """A store whose every operation is one command; in a cluster, one for each slot, all sent together.

    Args:
        client: Runs the commands.
        layout: Makes the names of keys.
        ttl: Milliseconds that a value and its call record stay after the last write or read of the value; 0 for no
            limit. The records of a call without a value do not expire, because another call may wait for it.
        notifier: Reports new values.
    """

    def __init__(self, client: Client, layout: Layout, *, ttl: int, notifier: RedisNotifier) -> None:
        self.notifier: Notifier | None = notifier
        self._notifier = notifier
        self._client = client
        self._layout = layout
        self._ttl = ttl
        self.expires_after = ttl / 1000 if ttl else None
        self._calls = CallExpirer(self._expire)

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Read records. With a ttl, refresh the values that are read."""
        check_keys(keys)
        names = [self._layout.record(key) for key in keys]
        groups = self._groups(names)
        if not self._ttl:
            mget = (
                command(names[group[0]], "MGET", *(names[index] for index in group), repeat=True) for group in groups
            )
            return _in_order(groups, await self._client.run_all([*mget]))
        least = int(self._ttl * (1 - REFRESH_SHARE))
        commands = [script_command(READ, [names[index] for index in group], self._ttl, least) for group in groups]
        replies = await self._client.run_all(commands)
        refreshed: list[Key] = [
            keys[group[place - 1]] for group, (_, places) in zip(groups, replies, strict=True) for place in places
        ]
        self._calls.add(refreshed)
        return _in_order(groups, [values for values, _ in replies])

    async def write(self, items: Sequence[tuple[Key, bytes]]) -> None:
        """Write records.

        If the reply is lost, repeat the write only if all its records are calls: every writer of a call hash writes
        the same bytes. Another worker may have changed records of other kinds in the meantime.
        """
        check_items(items, MAX_VALUE)
        names = [self._layout.record(key) for key, _ in items]
        commands: list[Command] = []
        for indexes in self._groups(names):
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
        """Compare and set records, one after another. Never repeated: a repeat would compare with its own result."""
        check_swaps(swaps, MAX_VALUE)
        names = [self._layout.record(key) for key, _, _ in swaps]
        with_ttl = [index for index, swap in enumerate(swaps) if self._ttl_of(swap.key)]
        calls = [self._call_name(swaps[index].key) or names[index] for index in with_ttl]
        together = len(self._groups([*names, *calls])) == 1
        deleted = [
            name for index in with_ttl if swaps[index].new is None and (name := self._call_name(swaps[index].key))
        ]
        if deleted:
            await self._calls.finish()
            if not together:  # in a cluster, a call record can be on another server than its value
                await self._client.run_all([command(name, "PERSIST", name, repeat=True) for name in deleted])
        groups = self._groups(names)
        commands: list[Command] = []
        for group in groups:
            arguments = [
                argument
                for key, expected, new in (swaps[index] for index in group)
                for argument in (
                    self._ttl_of(key),
                    encode_optional(expected),
                    encode_optional(new),
                    self._notifier.publish if is_awaited(key) else "",
                )
            ]
            of_script = [*(names[index] for index in group), *(calls if together else ())]
            commands.append(script_command(SWAP, of_script, *arguments, retry_arguments=None))
        done = [reply == 1 for reply in _in_order(groups, await self._client.run_all(commands))]
        if not together:
            there = [index for index in with_ttl if swaps[index].new is not None]
            finished = [swaps[index].key for index in there if done[index] or swaps[index].expected is None]
            self._calls.add(finished)
        return done

    async def close(self) -> None:
        """End the work in the background, and every wait for a value."""
        await self._notifier.close()
        await self._calls.close()

    def _groups(self, names: Sequence[bytes]) -> list[Sequence[int]]:
        """Return the indexes of the names that one command can take, for each command."""
        return list(self._client.router.groups(names)) if names else []

    def _ttl_of(self, key: Key) -> int:
        """Return the milliseconds after which a record expires, 0 for never."""
        return self._ttl if may_expire(key) else 0

    def _call_name(self, value: Key) -> bytes | None:
        call = call_record_of(value)
        return None if call is None else self._layout.record(call)

    async def _expire(self, calls: Sequence[Key]) -> None:
        """Let call records expire with their values."""
        names = map(self._layout.record, calls)
        await self._client.run_all([command(name, "PEXPIRE", name, self._ttl, repeat=True) for name in names])


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

        An increment whose reply is lost is not repeated, as it could count twice: it raises.
        """
        check_amounts(amounts.items())
        counters = list(amounts)
        names = [self._layout.counter(name) for name in counters]
        groups = list(self._client.router.groups(names)) if names else []
        commands = [
            script_command(
                INCREMENT,
                [names[index] for index in indexes],
                self._ttl,
                *(amounts[counters[index]] for index in indexes),
                retry_arguments=() if not any(amounts[counters[index]] for index in indexes) else None,
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


def _in_order(groups: Sequence[Sequence[int]], replies: Sequence[Reply]) -> list[Reply]:
    """Return the items of the replies in the order of the names that `groups` index."""
    if len(replies) == 1:
        return list(replies[0])
    found: list[Reply] = [None] * sum(map(len, groups))
    for group, reply in zip(groups, replies, strict=True):
        for index, each in zip(group, reply, strict=True):
            found[index] = each
    return found


def encode_optional(value: bytes | None) -> bytes:
    """Encode a value for the script: `+` and the value, or `-` for no value."""
    return b"-" if value is None else b"+" + value
