"""Keeps a connection: the first, and another whenever it is lost."""

import asyncio
from asyncio import Task
from random import shuffle, uniform
from typing import Final

from brrr_core.errors import BackendError
from brrr_nats.connection import Connection
from brrr_nats.dialling import dial
from brrr_nats.failures import Lost, closed, translated
from brrr_nats.location import Address, Location
from brrr_nats.options import NatsOptions

__all__ = ["FIRST_PAUSE", "Line"]

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
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
        self.current: Connection | None = None
        self._location = location
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._known: dict[Address, None] = dict.fromkeys(location.addresses)
        self._dialling: Task[None] | None = None
        self._shutting: set[Task[None]] = set()
        self._error: Exception = Lost(TimeoutError("not connected yet"), sent=False)
        self._closing = asyncio.Event()

    @property
    def is_closed(self) -> bool:
        """Whether the backend was closed."""
        return self._closing.is_set()

    async def connect(self) -> None:
        """Make the first connection. A server that is not there is not waited for.

        Raises:
            BackendUnavailableError: No server can be reached, or none takes the login.
            BackendError: The servers are too old, or have no JetStream.
        """
        self._dialling = asyncio.create_task(self._dial_once(), name="brrr connects")
        try:
            await asyncio.shield(self._dialling)
        except Exception as error:
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
            if self.current is not None:
                return self.current
            left = deadline - self._loop.time()
            if self._dialling is None or left <= 0:
                raise self._error
            await asyncio.wait({self._dialling}, timeout=left)

    async def close(self) -> None:
        """Close the connection. Whatever waits for an answer raises `BackendClosedError`."""
        self._closing.set()
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait({self._dialling})
            if not self._dialling.cancelled():
                self._dialling.exception()  # it was told to whoever waited, if anybody did
        connection, self.current = self.current, None
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

    async def _dial_once(self) -> None:
        """Try each server that is known, those that the URL names among the first. Raises what the last said."""
        addresses = list(self._known)
        shuffle(addresses)
        for address in addresses:
            try:
                connection = await dial(address, self._location, self._options, self._ended)
            except Exception as error:  # noqa: BLE001 - another server may be there
                self._error = error
                continue
            self._learn(connection)
            try:
                self._check(connection)
            except BackendError:
                await connection.shut()
                raise
            if connection.is_open:
                self.current = connection
                return
            self._error = Lost(connection.cause or TimeoutError("it closed the connection"), sent=False)
        raise self._error

    async def _dial_on(self) -> None:
        """Try until there is a connection."""
        pause = 2 * FIRST_PAUSE
        while True:
            try:
                await self._dial_once()
            except Exception as error:  # noqa: BLE001 - those who wait for a connection tell it
                self._error = error
                pause = await self.pause(pause)
            else:
                return

    def _ended(self, connection: Connection) -> None:
        """A connection is lost: clear it away, and make another."""
        if connection is not self.current:
            return
        self.current = None
        if self._closing.is_set():
            return
        self._error = Lost(connection.cause or TimeoutError("it closed the connection"), sent=False)
        shutting = asyncio.create_task(connection.shut(), name="brrr closes a connection that was lost")
        self._shutting.add(shutting)
        shutting.add_done_callback(self._shutting.discard)
        self._dialling = asyncio.create_task(self._dial_on(), name="brrr connects again")

    def _learn(self, connection: Connection) -> None:
        """Note what the server says of itself, and of the others."""
        self.max_payload = int(connection.info.get("max_payload", 0))
        told = [each.rpartition(":") for each in connection.info.get("connect_urls") or ()]
        others = [Address(host.strip("[]"), int(port)) for host, _, port in told if port.isdecimal()]
        self._known = dict.fromkeys((*self._location.addresses, *others))

    def _check(self, connection: Connection) -> None:
        version = str(connection.info.get("version", ""))
        numbers = tuple(int(each) for each in version.split("-", maxsplit=1)[0].split(".")[:2] if each.isdecimal())
        if numbers < OLDEST:
            raise BackendError(
                f"nats at {self.where} is version {version or 'unknown'}",
                remedy="brrr needs 2.12 or newer, which delays messages and counts.",
            )
        if not connection.info.get("headers"):
            raise BackendError(f"nats at {self.where} takes no headers", remedy="Do not set no_header_support.")
