"""The notifier: the script of `swap` publishes each new value, and one connection subscribes to the watched ones.

The channel of a value is the key of its record. So the server sends a message only to the processes that wait for this
value. Without a subscriber, publishing costs the server one lookup.

In a cluster the channels are sharded (Redis 7): a channel belongs to the server of its slot, which passes a message to
its own replicas and to no other server. So each server with watched values has a connection. If a slot moves, its old
server ends the subscriptions with a message that answers no command, and the connection fails. Then, as after each lost
connection, the map of the slots is read again, and each channel goes to the server that has it now.
"""

import asyncio
from asyncio import Future, Task
from contextlib import suppress
from functools import partial
from typing import Final

from redis.exceptions import MovedError, NoPermissionError, RedisError, ResponseError

from brrr_core.backend import Gate, Key, Notifier, Wake, Watches
from brrr_core.errors import BackendClosedError
from brrr_redis.client.client import FIRST_PAUSE_SECONDS, MAX_REDIRECTIONS, Client
from brrr_redis.client.connection import PipelinedConnection, Reply
from brrr_redis.layout import Layout
from brrr_redis.location import Address

__all__ = ["RedisNotifier"]

IDLE_SECONDS: Final = 30.0
"""Seconds that a connection stays open without a watch."""

PING_SECONDS: Final = 10.0
"""Seconds between two pings. This plus `timeout` bounds how long a dead connection goes unnoticed."""

UNKNOWN_COMMAND: Final = "unknown command"
"""Part of the reply of a server without sharded channels: Redis 6.2."""


class _Listener:
    """The subscriptions to the values of one server.

    Attributes:
        server: The server in a cluster; None for the only one.
        channels: The watched channels, and the hash of the call of each.
        has_channels: Set while there are channels.
        connection: The connection, which subscribes to each new channel; None while it is not open.
        opening: Whether the first connection is open, when that is known; None after that.
        task: Listens; None before its start and after its end.
    """

    __slots__ = ("channels", "connection", "has_channels", "opening", "server", "task")

    def __init__(self, server: Address | None) -> None:
        self.server = server
        self.channels: dict[bytes, str] = {}
        self.has_channels = asyncio.Event()
        self.connection: PipelinedConnection | None = None
        self.opening: Future[bool] | None = None
        self.task: Task[None] | None = None

    def add(self, channel: bytes, call_hash: str) -> None:
        self.channels[channel] = call_hash
        self.has_channels.set()

    def remove(self, channel: bytes) -> None:
        del self.channels[channel]
        if not self.channels:
            self.has_channels.clear()

    def tell(self, *, is_open: bool) -> None:
        """Return from the `watch` calls that wait for the first connection."""
        opening, self.opening = self.opening, None
        if opening is not None and not opening.done():
            opening.set_result(is_open)


class RedisNotifier(Notifier):
    """Watches values on one connection to each server that has some, which is open while something is watched.

    Args:
        client: Opens the connections.
        layout: Makes the names of keys.
        sharded: Whether the servers are a cluster, whose channels are sharded.
    """

    def __init__(self, client: Client, layout: Layout, *, sharded: bool) -> None:
        self._client = client
        self._layout = layout
        self._subscribe, self._unsubscribe = ("SSUBSCRIBE", "SUNSUBSCRIBE") if sharded else ("SUBSCRIBE", "UNSUBSCRIBE")
        self._watches = Watches()
        self._listeners: dict[Address | None, _Listener] = {}
        self._listener_of: dict[bytes, _Listener] = {}
        self._refused = False
        self._gate = Gate()
        self.publish: Final = "SPUBLISH" if sharded else "PUBLISH"

    async def watch(self, call_hash: str, wake: Wake) -> bool:
        """Subscribe, on a new connection if necessary. Return False while the server does not take subscriptions."""
        self._gate.check()
        channel = self._layout.record(Key("value", call_hash))
        self._watches.add(call_hash, wake)
        return await self._listen_to(channel, call_hash)

    def unwatch(self, call_hash: str, wake: Wake) -> None:
        """Unsubscribe if it was the last watch of this value."""
        if not self._watches.remove(call_hash, wake):
            return
        channel = self._layout.record(Key("value", call_hash))
        self._leave(channel, self._listener_of.pop(channel))

    async def close(self) -> None:
        """Wake everything, and close the connections."""
        self._gate.refuse()
        self._watches.wake_all()
        await self._gate.close()

    async def _listen_to(self, channel: bytes, call_hash: str) -> bool:
        """Subscribe at the server of a channel. Return whether the subscription is in force."""
        for _ in range(MAX_REDIRECTIONS):
            listener = self._join(channel, call_hash)
            if listener.opening is not None:
                await asyncio.shield(listener.opening)
            connection = listener.connection
            if connection is None or call_hash not in self._watches:
                return False
            answer = await connection.send((self._subscribe, channel))
            if not isinstance(answer, MovedError):
                if _is_refusal(answer):
                    self._refused = True
                    self._client.router.pool.discard(connection)
                return not isinstance(answer, Exception)
            self._client.router.redirected(answer, connection)
            if call_hash not in self._watches:
                break
        return False

    def _join(self, channel: bytes, call_hash: str) -> _Listener:
        """Return the listener of a channel's server, after adding the channel to it, and starting it if necessary."""
        server = self._client.router.known(channel)
        listener = self._listeners.get(server)
        if listener is None:
            listener = self._listeners[server] = _Listener(server)
        before = self._listener_of.get(channel)
        if before is not None and before is not listener:
            self._leave(channel, before)
        self._listener_of[channel] = listener
        listener.add(channel, call_hash)
        if listener.task is None:
            self._start(listener, asyncio.get_running_loop().create_future())
        return listener

    def _leave(self, channel: bytes, listener: _Listener) -> None:
        listener.remove(channel)
        if listener.connection is not None:
            listener.connection.send((self._unsubscribe, channel))

    def _start(self, listener: _Listener, opening: Future[bool] | None = None) -> None:
        if not self._refused and not self._gate.closing:
            listener.opening = opening
            listener.task = self._gate.start(self._run(listener), name="brrr listens for new values")
            listener.task.add_done_callback(partial(self._on_end, listener))

    async def _run(self, listener: _Listener) -> None:
        """Listen until nothing has been watched for `IDLE_SECONDS`. Connect again whenever the connection is lost."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                if not await self._listen(listener):
                    return
                pause = FIRST_PAUSE_SECONDS
            except BackendClosedError:
                return
            except Exception as error:  # noqa: BLE001 - waits poll until then, and their reads raise the error
                self._refused = self._refused or _is_refusal(error)
            if self._refused:
                return  # all waits poll
            listener.tell(is_open=False)
            self._client.router.invalidate(None)
            pause = await self._client.pause(pause)
            await self._follow_slots(listener)
            if not listener.channels:
                return

    async def _listen(self, listener: _Listener) -> bool:
        """Open a connection, subscribe to everything that was watched before it, and wait.

        Returns:
            Whether the connection was lost. If not, nothing is watched.
        """
        connection = await self._client.subscribing_connection(listener.server, partial(self._on_message, listener))
        try:
            listener.connection = connection  # from now on, each new watch subscribes by itself
            if listener.opening is None:
                for reply in [connection.send((self._subscribe, channel)) for channel in listener.channels]:
                    answer = await reply
                    if isinstance(answer, Exception):
                        raise answer
                self._wake_all(listener)
            listener.tell(is_open=True)
            while not await connection.lost(within=PING_SECONDS):
                connection.send(("PING",))
                if not listener.has_channels.is_set() and not await self._is_needed(listener):
                    return False
            return True
        finally:
            listener.connection = None
            self._client.router.pool.discard(connection)

    async def _follow_slots(self, listener: _Listener) -> None:
        """Move the channels of a listener whose slots another server has now."""
        with suppress(RedisError, OSError):  # no server answers: the next attempt reads the map
            await self._client.router.primaries()
        for channel, call_hash in tuple(listener.channels.items()):
            if channel in listener.channels and self._client.router.known(channel) != listener.server:
                await self._listen_to(channel, call_hash)
                self._watches.wake((call_hash,))  # hints were lost in between

    async def _is_needed(self, listener: _Listener) -> bool:
        """Wait for a watch. Return False if none came for `IDLE_SECONDS`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE_SECONDS):
                await listener.has_channels.wait()
        return listener.has_channels.is_set()

    def _wake_all(self, listener: _Listener) -> None:
        """Wake all watches of a server: hints were lost while its connection was down."""
        self._watches.wake(tuple(listener.channels.values()))

    def _on_message(self, listener: _Listener, channel: bytes) -> None:
        call_hash = listener.channels.get(channel)
        if call_hash is not None:
            self._watches.wake((call_hash,))

    def _on_end(self, listener: _Listener, task: Task[None]) -> None:
        listener.task = None
        listener.tell(is_open=False)
        if not listener.channels:
            del self._listeners[listener.server]
        elif not task.cancelled():  # one was added as the connection closed
            self._start(listener)


def _is_refusal(answer: Reply) -> bool:
    """Whether the server will not take subscriptions later either."""
    return isinstance(answer, NoPermissionError) or (
        isinstance(answer, ResponseError) and str(answer).startswith(UNKNOWN_COMMAND)
    )
