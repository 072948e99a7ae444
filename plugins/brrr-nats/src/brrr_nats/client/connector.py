"""The connector keeps one connection: it opens the first, and another whenever one is lost."""

import asyncio
from asyncio import Task
from ipaddress import ip_address
from random import shuffle, uniform
from typing import Final

from brrr_core.backend import cancelled_from_outside, start_task
from brrr_core.errors import BackendError
from brrr_nats.client.connection import Connection
from brrr_nats.client.errors import FAILURES, NoReplyError, closed_error, to_brrr_error
from brrr_nats.client.login import open_connection
from brrr_nats.location import Address, Location
from brrr_nats.options import NatsOptions

__all__ = ["FIRST_PAUSE_SECONDS", "Connector"]

FIRST_PAUSE_SECONDS: Final = 0.02
MAX_PAUSE_SECONDS: Final = 1.0

RECONNECT_PAUSE_SECONDS: Final = 0.1
"""Longest pause before the first attempt to reconnect. All clients of a server lose their connections at the same
moment, so the pause is random."""

STABLE_AFTER_SECONDS: Final = 5.0
"""Seconds after which a connection counts as stable. Until then, the pauses between attempts grow."""

MIN_SERVER_VERSION: Final = (2, 12)


class Connector:
    """The current connection to the servers.

    Args:
        location: The servers to try first.
        options: Logins and timeouts.
    """

    def __init__(self, location: Location, options: NatsOptions) -> None:
        self.servers = str(location)
        self.max_payload = 0
        """Largest message in bytes, headers included, as the server of the last connection states it."""
        self._current: Connection | None = None
        self._location = location
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._known_servers = {address: address.host for address in location.addresses}
        self._next_pause = RECONNECT_PAUSE_SECONDS
        self._connected_at = 0.0
        self._connecting: Task[None] | None = None
        self._shutdowns: set[Task[None]] = set()
        self._error: Exception = NoReplyError(TimeoutError("not connected yet"), sent=False)
        self._closing = asyncio.Event()

    @property
    def current(self) -> Connection | None:
        """The current connection, if there is one."""
        if self._current is not None and self._current.is_broken:
            self._current.end(ConnectionResetError("it closed the connection"))
        return self._current

    @property
    def is_closed(self) -> bool:
        """Whether the backend was closed."""
        return self._closing.is_set()

    async def connect(self) -> None:
        """Open the first connection. Each server is tried once.

        Raises:
            BackendUnavailableError: No server can be reached, or none accepts the login.
            BackendError: The servers are too old, or have no JetStream.
            BackendClosedError: The backend was closed, or the connecting task was cancelled from outside.
        """
        connecting = self._connecting = asyncio.create_task(self._connect_once(), name="brrr connects")
        await asyncio.wait({connecting})
        if connecting.cancelled():
            raise closed_error() if self._closing.is_set() else cancelled_from_outside()
        try:
            connecting.result()
        except FAILURES as error:
            raise to_brrr_error(error, self.servers) from error

    async def connection(self, deadline: float) -> Connection:
        """Return the connection. Wait for it until `deadline`, by the loop's clock.

        Raises:
            NoReplyError: There is no connection.
            BackendClosedError: The backend was closed.
        """
        while True:
            if self._closing.is_set():
                raise closed_error()
            current = self.current
            if current is not None:
                return current
            left = deadline - self._loop.time()
            if left <= 0:
                raise self._error.with_traceback(None)  # every waiter raises this same object
            if self._connecting is None or self._connecting.done():  # the last attempt was cancelled from outside
                self._connecting = start_task(self._reconnect(), name="brrr connects again")
            await asyncio.wait({self._connecting}, timeout=left)

    async def close(self) -> None:
        """Close the connection. Waiting requests raise `BackendClosedError`."""
        self._closing.set()
        try:
            if self._connecting is not None:
                self._connecting.cancel()
                await asyncio.wait({self._connecting})
                if not self._connecting.cancelled():
                    self._connecting.exception()  # retrieve it; waiters have raised it already
        finally:  # also if closing is cancelled
            connection, self._current = self._current, None
            if connection is not None:
                connection.end(closed_error())
                await connection.shut_down()
            while self._shutdowns:
                await asyncio.wait(self._shutdowns)

    async def pause(self, seconds: float) -> float:
        """Wait a random part of `seconds`, or until the backend is closed. Return the next, longer pause.

        Raises:
            BackendClosedError: The backend was closed.
        """
        try:
            async with asyncio.timeout(uniform(seconds / 2, seconds)):  # noqa: S311 - jitter, not a secret
                await self._closing.wait()
        except TimeoutError:
            return min(2 * seconds, MAX_PAUSE_SECONDS)
        raise closed_error()

    def info_changed(self, connection: Connection) -> None:
        """Take over the server's limits and the addresses of other servers."""
        self.max_payload = int(connection.info.get("max_payload", 0))
        told = [each.rpartition(":") for each in connection.info.get("connect_urls") or ()]
        others = [Address(host.strip("[]"), int(port)) for host, _, port in told if port.isdecimal()]
        # Servers advertise IP addresses, and certificates name hosts. The servers of a cluster share a name.
        named = {other: connection.name if _is_number(other.host) else other.host for other in others}
        self._known_servers = {**named, **{address: address.host for address in self._location.addresses}}

    def connection_lost(self, connection: Connection) -> None:
        """Clear a lost connection away, and open another."""
        if connection is not self._current:
            return
        self._current = None
        if self._closing.is_set():
            return
        if self._loop.time() - self._connected_at >= STABLE_AFTER_SECONDS:
            self._next_pause = RECONNECT_PAUSE_SECONDS
        self._error = _lost_error(connection)
        if connection.is_orphaned:
            connection.abort()  # a loop that shuts down does not wait for new tasks
            return
        shutdown = start_task(connection.shut_down(), name="brrr closes a connection that was lost")
        self._shutdowns.add(shutdown)
        shutdown.add_done_callback(self._shutdowns.discard)
        shutdown.add_done_callback(lambda _: connection.abort())  # the task may be cancelled before it starts
        self._connecting = start_task(self._reconnect(), name="brrr connects again")

    async def _connect_once(self) -> None:
        """Try each known server once, in random order. Raise the last error."""
        known = list(self._known_servers.items())
        shuffle(known)
        for address, name in known:
            try:
                connection = await open_connection(address, name, self._location, self._options, self)
            except Exception as error:  # noqa: BLE001 - another server may accept
                self._error = error
                continue
            self.info_changed(connection)
            unusable = self._unusable_reason(connection)
            if unusable is None:
                self._current, self._connected_at = connection, self._loop.time()
                return
            self._error = unusable
            await connection.shut_down()
        raise self._error

    async def _reconnect(self) -> None:
        """Try until there is a connection."""
        while True:
            self._next_pause = await self.pause(self._next_pause)
            try:
                await self._connect_once()
            except Exception as error:  # noqa: BLE001 - requests that wait for a connection raise it
                self._error = error
            else:
                return

    def _unusable_reason(self, connection: Connection) -> Exception | None:
        """Return why a connection cannot be used, or None."""
        if not connection.is_open:
            return _lost_error(connection)
        version = str(connection.info.get("version", ""))
        numbers = tuple(int(each) for each in version.split("-", maxsplit=1)[0].split(".")[:2] if each.isdecimal())
        if numbers < MIN_SERVER_VERSION:
            return BackendError(
                f"nats at {self.servers} is version {version or 'unknown'}",
                remedy="Upgrade it: brrr needs 2.12 or newer, for delayed messages and counters.",
            )
        if not connection.info.get("headers"):
            return BackendError(
                f"nats at {self.servers} does not support headers",
                remedy="Remove no_header_support from its configuration.",
            )
        return None


def _lost_error(connection: Connection) -> NoReplyError:
    return NoReplyError(connection.cause or TimeoutError("it closed the connection"), sent=False)


def _is_number(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
