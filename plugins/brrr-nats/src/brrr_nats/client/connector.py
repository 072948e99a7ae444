"""Keeps a connection: the first, and another whenever it is lost."""

import asyncio
from asyncio import Task
from ipaddress import ip_address
from random import shuffle, uniform
from typing import Final

from brrr_core.backend import cancelled_from_outside, start_task
from brrr_core.errors import BackendError
from brrr_nats.client.connection import Connection
from brrr_nats.client.errors import FAILURES, Lost, closed, translated
from brrr_nats.client.login import dial
from brrr_nats.location import Address, Location
from brrr_nats.options import NatsOptions

__all__ = ["FIRST_PAUSE", "Line"]

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0

BEFORE_DIALLING: Final = 0.1
"""Seconds, at most, before a connection is made anew: all clients of a server lose theirs at the same moment."""

STEADY: Final = 5.0
"""Seconds after which a connection counts as one that lasts. The pauses grow as long as none does."""

OLDEST: Final = (2, 12)


class Line:
    """The way to the servers.

    Args:
        location: The servers to ask first.
        options: How to log in, and how long to wait.
    """

    def __init__(self, location: Location, options: NatsOptions) -> None:
        self.where = str(location)
        self.max_payload = 0
        """Bytes that a message may have, headers included, as the server of the last connection says."""
        self._current: Connection | None = None
        self._location = location
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._known = {address: address.host for address in location.addresses}
        self._pause = BEFORE_DIALLING
        self._since = 0.0
        self._dialling: Task[None] | None = None
        self._shutting: set[Task[None]] = set()
        self._error: Exception = Lost(TimeoutError("not connected yet"), sent=False)
        self._closing = asyncio.Event()

    @property
    def current(self) -> Connection | None:
        """The connection, if there is one."""
        if self._current is not None and self._current.is_broken:
            self._current.end(ConnectionResetError("it closed the connection"))
        return self._current

    @property
    def is_closed(self) -> bool:
        """Whether the backend was closed."""
        return self._closing.is_set()

    async def connect(self) -> None:
        """Make the first connection. A server that is not there is not waited for.

        Raises:
            BackendUnavailableError: No server can be reached, or none takes the login.
            BackendError: The servers are too old, or have no JetStream.
            BackendClosedError: The backend was closed, or the task that connects was cancelled from outside.
        """
        dialling = self._dialling = asyncio.create_task(self._dial_once(), name="brrr connects")
        await asyncio.wait({dialling})
        if dialling.cancelled():
            raise closed() if self._closing.is_set() else cancelled_from_outside()
        try:
            dialling.result()
        except FAILURES as error:
            raise translated(error, self.where) from error

    async def connection(self, deadline: float) -> Connection:
        """The connection; waits for it until `deadline`, by the loop's clock.

        Raises:
            Lost: There is none.
            BackendClosedError: The backend was closed.
        """
        while True:
            if self._closing.is_set():
                raise closed()
            current = self.current
            if current is not None:
                return current
            left = deadline - self._loop.time()
            if left <= 0:
                raise self._error.with_traceback(None)  # the same one is raised for everybody who waits
            if self._dialling is None or self._dialling.done():  # it was cancelled from outside
                self._dialling = start_task(self._dial_on(), name="brrr connects again")
            await asyncio.wait({self._dialling}, timeout=left)

    async def close(self) -> None:
        """Close the connection. Whatever waits for an answer raises `BackendClosedError`."""
        self._closing.set()
        try:
            if self._dialling is not None:
                self._dialling.cancel()
                await asyncio.wait({self._dialling})
                if not self._dialling.cancelled():
                    self._dialling.exception()  # it was told to whoever waited, if anybody did
        finally:  # who is cancelled while he closes leaves no connection behind either
            connection, self._current = self._current, None
            if connection is not None:
                connection.end(closed())
                await connection.shut()
            while self._shutting:
                await asyncio.wait(self._shutting)

    async def pause(self, seconds: float) -> float:
        """Wait before another try; less if the backend is closed. How long to wait the next time.

        Raises:
            BackendClosedError: The backend was closed.
        """
        try:
            async with asyncio.timeout(uniform(seconds / 2, seconds)):  # noqa: S311 - jitter, not a secret
                await self._closing.wait()
        except TimeoutError:
            return min(2 * seconds, LONGEST_PAUSE)
        raise closed()

    def told(self, connection: Connection) -> None:
        """Note what the server says of itself, and of the others; it may say so at any time."""
        self.max_payload = int(connection.info.get("max_payload", 0))
        told = [each.rpartition(":") for each in connection.info.get("connect_urls") or ()]
        others = [Address(host.strip("[]"), int(port)) for host, _, port in told if port.isdecimal()]
        # Servers tell of each other by numbers, and certificates are for names: those of one cluster share theirs.
        named = {other: connection.name if _is_number(other.host) else other.host for other in others}
        self._known = {**named, **{address: address.host for address in self._location.addresses}}

    def ended(self, connection: Connection) -> None:
        """A connection is lost: clear it away, and make another."""
        if connection is not self._current:
            return
        self._current = None
        if self._closing.is_set():
            return
        if self._loop.time() - self._since >= STEADY:
            self._pause = BEFORE_DIALLING
        self._error = _lost(connection)
        if connection.is_orphaned:
            connection.abort()  # a loop that is ending does not wait for tasks that begin now, unless somebody does
            return
        shutting = start_task(connection.shut(), name="brrr closes a connection that was lost")
        self._shutting.add(shutting)
        shutting.add_done_callback(self._shutting.discard)
        shutting.add_done_callback(lambda _: connection.abort())  # it may be cancelled before it begins
        self._dialling = start_task(self._dial_on(), name="brrr connects again")

    async def _dial_once(self) -> None:
        """Try each server that is known, those that the URL names among the first. Raises what the last said."""
        known = list(self._known.items())
        shuffle(known)
        for address, name in known:
            try:
                connection = await dial(address, name, self._location, self._options, self)
            except Exception as error:  # noqa: BLE001 - another server may be there
                self._error = error
                continue
            self.told(connection)
            unfit = self._unfit(connection)
            if unfit is None:
                self._current, self._since = connection, self._loop.time()
                return
            self._error = unfit
            await connection.shut()
        raise self._error

    async def _dial_on(self) -> None:
        """Try until there is a connection."""
        while True:
            self._pause = await self.pause(self._pause)
            try:
                await self._dial_once()
            except Exception as error:  # noqa: BLE001 - those who wait for a connection tell it
                self._error = error
            else:
                return

    def _unfit(self, connection: Connection) -> Exception | None:
        """Why a connection is of no use."""
        if not connection.is_open:
            return _lost(connection)
        version = str(connection.info.get("version", ""))
        numbers = tuple(int(each) for each in version.split("-", maxsplit=1)[0].split(".")[:2] if each.isdecimal())
        if numbers < OLDEST:
            return BackendError(
                f"nats at {self.where} is version {version or 'unknown'}",
                remedy="brrr needs 2.12 or newer, which delays messages and counts.",
            )
        if not connection.info.get("headers"):
            return BackendError(f"nats at {self.where} takes no headers", remedy="Do not set no_header_support.")
        return None


def _lost(connection: Connection) -> Lost:
    return Lost(connection.cause or TimeoutError("it closed the connection"), sent=False)


def _is_number(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
