"""The connector keeps one connection: it opens the first, and another whenever one is lost."""

import asyncio
from asyncio import Task
from collections.abc import Callable
from ipaddress import ip_address
from random import shuffle
from typing import Final

from brrr_core.backend import Gate, closed_error, start_task, translating
from brrr_core.errors import BackendError
from brrr_nats.client.connection import Connection
from brrr_nats.client.errors import FAILURES, NoReplyError, to_brrr_error
from brrr_nats.client.login import open_connection, payload_limit
from brrr_nats.location import Address, Location
from brrr_nats.options import NatsOptions

__all__ = ["FIRST_PAUSE_SECONDS", "Connector"]

FIRST_PAUSE_SECONDS: Final = 0.02
MAX_PAUSE_SECONDS: Final = 1.0

RECONNECT_PAUSE_SECONDS: Final = 0.1
"""Longest pause before the first attempt to reconnect: all clients of a server lose their connections together."""

STABLE_AFTER_SECONDS: Final = 5.0
"""Seconds after which a connection counts as stable. Until then, the pauses between attempts grow."""

MIN_SERVER_VERSION: Final = [2, 12]


class Connector:
    """The current connection to the servers.

    Attributes:
        max_payload: The largest message in bytes that its server accepts.
        on_connected: Called with each new connection.
    """

    def __init__(self, location: Location, options: NatsOptions) -> None:
        self.servers = str(location)
        self.max_payload = 0
        self.on_connected: Callable[[Connection], None] = lambda connection: None
        self._current: Connection | None = None
        self._location = location
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._known_servers = {address: address.host for address in location.addresses}
        self._next_pause = RECONNECT_PAUSE_SECONDS
        self._connected_at = 0.0
        self._name = ""
        self._connecting: Task[None] | None = None
        self._closings: set[Task[None]] = set()
        self._unclosed: list[Connection] = []
        self._error: Exception = NoReplyError(TimeoutError("not connected yet"), sent=False)
        self.gate = Gate()

    @property
    def current(self) -> Connection | None:
        """The current connection, if there is one."""
        current = self._current
        if current is not None and not current.client.is_connected:  # nats-py may still be closing it
            current.end(current.client.last_error or ConnectionResetError("it closed the connection"))
        return self._current

    async def connect(self) -> None:
        """Open the first connection. Each server is tried once.

        Raises:
            BackendUnavailableError: No server can be reached, or none accepts the login.
            BackendError: The servers are too old, or have no JetStream.
            BackendClosedError: The backend was closed, or the connecting task was cancelled from outside.
        """
        self._connecting = self.gate.start(self._connect_once(), name="brrr connects")
        with translating(FAILURES, lambda error: to_brrr_error(error, self.servers)):
            await self.gate.result(self._connecting)

    async def connection(self, deadline: float) -> Connection:
        """Return the connection. Wait for it until `deadline`, by the loop's clock.

        Raises:
            NoReplyError: There is no connection.
            BackendClosedError: The backend was closed.
        """
        while True:
            self.gate.check()
            current = self.current
            if current is not None:
                return current
            left = deadline - self._loop.time()
            if left <= 0:
                raise self._error.with_traceback(None)  # every waiter raises this same object
            if self._connecting is None or self._connecting.done():  # the last attempt was cancelled from outside
                self._connecting = self.gate.start(self._reconnect(), name="brrr connects again")
            await asyncio.wait({self._connecting}, timeout=left)

    async def close(self) -> None:
        """Close the connection. Waiting requests raise `BackendClosedError`."""
        try:
            await self.gate.close()
        finally:  # also if closing is cancelled
            connection = self._current
            if connection is not None:
                connection.end(closed_error())
            self._close(*self._unclosed)
            while self._closings:
                await asyncio.wait(self._closings)

    async def pause(self, seconds: float) -> float:
        """Wait before another attempt. Return the next, longer pause. Raises `BackendClosedError`."""
        return await self.gate.pause(seconds, longest=MAX_PAUSE_SECONDS)

    def _on_lost(self, connection: Connection) -> None:
        """Clear a lost connection away, and open another."""
        if connection is not self._current:
            return
        self._note_servers(connection)
        self._current = None
        if self._loop.time() - self._connected_at >= STABLE_AFTER_SECONDS:
            self._next_pause = RECONNECT_PAUSE_SECONDS
        self._error = _lost_error(connection)
        self._unclosed.append(connection)
        if connection.is_orphaned and not self.gate.closing:
            return  # a loop that shuts down does not wait for new tasks
        self._close(*self._unclosed)
        if not self.gate.closing:
            self._connecting = self.gate.start(self._reconnect(), name="brrr connects again")

    def _close(self, *connections: Connection) -> None:
        for connection in connections:
            closing = start_task(connection.close(), name="brrr closes a connection")
            self._closings.add(closing)
            closing.add_done_callback(self._closings.discard)
            self._unclosed.remove(connection)

    def _note_servers(self, connection: Connection) -> None:
        """Note the other servers that a server has advertised, by address and name."""
        advertised = [Address(each.hostname or "", each.port or 0) for each in connection.client.discovered_servers]
        # Servers advertise IP addresses, and certificates name hosts. The servers of a cluster share a name.
        named = {other: self._name if _is_number(other.host) else other.host for other in advertised}
        self._known_servers = {**named, **{address: address.host for address in self._location.addresses}}

    async def _connect_once(self) -> None:
        """Try each known server once, in random order. Raise the last error."""
        self._close(*self._unclosed)
        limit = payload_limit(self._options)
        known = list(self._known_servers.items())
        shuffle(known)
        for address, name in known:
            try:
                connection = await open_connection(address, name, self._location, self._options, self._on_lost)
            except Exception as error:  # noqa: BLE001 - another server may accept
                self._error = error
                continue
            unusable = self._unusable_reason(connection)
            if unusable is None:
                self._name, self._current, self._connected_at = name, connection, self._loop.time()
                self.max_payload = connection.client.max_payload
                if limit > 0:
                    self.max_payload = min(self.max_payload, limit)
                self._note_servers(connection)
                self.on_connected(connection)
                return
            self._error = unusable
            await connection.close()
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
        if connection.cause is not None or not connection.client.is_connected:
            return _lost_error(connection)
        version = connection.client.connected_server_version
        try:
            numbers = [version.major, version.minor]
        except ValueError:
            numbers = [0, 0]
        if numbers < MIN_SERVER_VERSION:
            return BackendError(
                f"nats at {self.servers} is version {'.'.join(map(str, numbers))}",
                remedy="Upgrade it: brrr needs 2.12 or newer, for delayed messages and counters.",
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
