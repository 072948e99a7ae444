"""The notifier: the script of `swap` publishes each new value, and one connection subscribes to the watched ones.

The channel of a value is the key of its record. So the server sends a message only to the processes that wait for this
value. Without a subscriber, publishing costs the server one lookup.
"""

import asyncio
from asyncio import Future, Task
from contextlib import suppress
from typing import Final

from redis.exceptions import NoPermissionError

from brrr_core.backend import Gate, Key, Notifier, Wake, Watches
from brrr_core.errors import BackendClosedError
from brrr_redis.client.client import FIRST_PAUSE_SECONDS, Client
from brrr_redis.client.connection import PipelinedConnection
from brrr_redis.layout import Layout

__all__ = ["RedisNotifier"]

IDLE_SECONDS: Final = 30.0
"""Seconds that the connection stays open without a watch."""

PING_SECONDS: Final = 10.0
"""Seconds between two pings. This plus `timeout` bounds how long a dead connection goes unnoticed."""


class RedisNotifier(Notifier):
    """Watches values on one connection, which is open while something is watched.

    Args:
        client: Opens the connection.
        layout: Makes the names of keys.
    """

    def __init__(self, client: Client, layout: Layout) -> None:
        self._client = client
        self._layout = layout
        self._watches = Watches()
        self._hashes: dict[bytes, str] = {}
        self._has_watches = asyncio.Event()
        self._connection: PipelinedConnection | None = None
        self._opening: Future[bool] | None = None
        self._task: Task[None] | None = None
        self._refused = False
        self._gate = Gate()

    async def watch(self, call_hash: str, wake: Wake) -> bool:
        """Subscribe, on a new connection if necessary. Return False while the server does not take subscriptions."""
        self._gate.check()
        channel = self._layout.record(Key("value", call_hash))
        self._watches.add(call_hash, wake)
        self._hashes[channel] = call_hash
        self._has_watches.set()
        if self._connection is not None:
            return not isinstance(await self._connection.send(("SUBSCRIBE", channel)), Exception)
        if self._task is None:
            self._start()
        return await asyncio.shield(self._opening) if self._opening is not None else False

    def unwatch(self, call_hash: str, wake: Wake) -> None:
        """Unsubscribe if it was the last watch of this value."""
        if not self._watches.remove(call_hash, wake):
            return
        channel = self._layout.record(Key("value", call_hash))
        del self._hashes[channel]
        if not self._watches:
            self._has_watches.clear()
        if self._connection is not None:
            self._connection.send(("UNSUBSCRIBE", channel))

    async def close(self) -> None:
        """Wake everything, and close the connection."""
        self._gate.refuse()
        self._watches.wake_all()
        await self._gate.close()

    def _start(self) -> None:
        if not self._refused and not self._gate.closing:
            self._opening = asyncio.get_running_loop().create_future()
            self._task = self._gate.start(self._run(), name="brrr listens for new values")
            self._task.add_done_callback(self._on_end)

    async def _run(self) -> None:
        """Listen until nothing has been watched for `IDLE_SECONDS`. Connect again whenever the connection is lost."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                if not await self._listen():
                    return
                pause = FIRST_PAUSE_SECONDS
            except NoPermissionError:
                self._refused = True  # all waits poll
                return
            except BackendClosedError:
                return
            except Exception:  # noqa: BLE001 - waits poll until then, and their reads raise the error
                self._client.router.invalidate(None)
            self._opened(in_force=False)
            pause = await self._client.pause(pause)

    async def _listen(self) -> bool:
        """Open a connection, subscribe to everything that is watched, and wait.

        Returns:
            Whether the connection was lost. If not, nothing is watched.
        """
        connection = await self._client.subscribing_connection(self._on_message)
        try:
            self._connection = connection  # from now on, each new watch subscribes by itself
            for reply in [connection.send(("SUBSCRIBE", channel)) for channel in self._hashes]:
                answer = await reply
                if isinstance(answer, Exception):
                    raise answer
            if self._opening is None:
                self._watches.wake_all()  # hints were lost before this connection
            self._opened(in_force=connection.alive)
            while not await connection.lost(within=PING_SECONDS):
                connection.send(("PING",))
                if not self._has_watches.is_set() and not await self._is_needed():
                    return False
            return True
        finally:
            self._connection = None
            self._client.router.pool.discard(connection)

    async def _is_needed(self) -> bool:
        """Wait for a watch. Return False if none came for `IDLE_SECONDS`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE_SECONDS):
                await self._has_watches.wait()
        return self._has_watches.is_set()

    def _opened(self, *, in_force: bool) -> None:
        """Return from the `watch` calls that wait for the connection."""
        opening, self._opening = self._opening, None
        if opening is not None and not opening.done():
            opening.set_result(in_force)

    def _on_message(self, channel: bytes) -> None:
        call_hash = self._hashes.get(channel)
        if call_hash is not None:
            self._watches.wake((call_hash,))

    def _on_end(self, task: Task[None]) -> None:
        self._task = None
        self._opened(in_force=False)
        if not task.cancelled() and self._watches:  # one was added just now
            self._start()
