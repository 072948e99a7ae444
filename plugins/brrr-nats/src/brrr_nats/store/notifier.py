"""The notifier: it subscribes to the subjects of the watched values, so the writer's message is the hint.

Writers publish nothing for it, and workers of other SDKs announce their values too. A subscriber may get the message
before the stream has stored it. So each message wakes again a little later.
"""

import asyncio
from functools import partial
from typing import Final

from brrr_core.backend import Gate, Key, Notifier, Wake, Watches
from brrr_nats.client.connection import Connection
from brrr_nats.client.connector import Connector
from brrr_nats.names import Bucket

__all__ = ["NatsNotifier"]

REPEAT_AFTER_SECONDS: Final = (0.02, 0.2)
"""Seconds after which a message wakes again: the time that a stream takes to store it, and its replicas to agree."""


class NatsNotifier(Notifier):
    """Watches values on the connection of the requests.

    Args:
        connector: Keeps the connection.
        bucket: Makes the subjects of values.
        timeout: Seconds to wait for the server to confirm a subscription.
    """

    def __init__(self, connector: Connector, bucket: Bucket, timeout: float) -> None:
        self._connector = connector
        self._bucket = bucket
        self._timeout = timeout
        self._watches = Watches()
        self._gate = Gate()
        self._loop = asyncio.get_running_loop()
        connector.on_connected = self._on_connected

    async def watch(self, call_hash: str, wake: Wake) -> bool:
        """Subscribe. Return False without a connection, or if the user may not subscribe to values."""
        self._gate.check()
        self._watches.add(call_hash, wake)
        connection = self._connector.current
        return connection is not None and await self._subscribe(connection, call_hash)

    def unwatch(self, call_hash: str, wake: Wake) -> None:
        """Unsubscribe if it was the last watch of this value."""
        if self._watches.remove(call_hash, wake) and self._connector.current is not None:
            self._connector.current.unsubscribe(self._subject(call_hash))

    async def close(self) -> None:
        """Wake everything. The subscriptions end with the connection."""
        self._gate.refuse()
        self._watches.wake_all()
        await self._gate.close()

    def _subject(self, call_hash: str) -> str:
        return self._bucket.subject(Key("value", call_hash))

    async def _subscribe(self, connection: Connection, *call_hashes: str) -> bool:
        for call_hash in call_hashes:
            await connection.subscribe(self._subject(call_hash), partial(self._on_message, call_hash))
        return await connection.confirm(self._timeout)

    def _on_connected(self, connection: Connection) -> None:
        if self._watches and not self._gate.closing:
            self._gate.start(self._renew(connection), name="brrr watches values again")

    async def _renew(self, connection: Connection) -> None:
        """Subscribe on a new connection, and wake everything: hints were lost before it."""
        await self._subscribe(connection, *self._watches.call_hashes)
        self._watches.wake_all()

    def _on_message(self, call_hash: str) -> None:
        self._watches.wake((call_hash,))
        for seconds in REPEAT_AFTER_SECONDS:
            self._loop.call_later(seconds, self._watches.wake, (call_hash,))
