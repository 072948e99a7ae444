"""The connections of one backend: a shared one to each server, and dedicated ones for blocking commands."""

from asyncio import Task, wait

from brrr_core.backend import Gate, closed_error
from brrr_redis.client.connection import OnMessage, PipelinedConnection
from brrr_redis.client.errors import ConnectionClosedError
from brrr_redis.client.login import Connector
from brrr_redis.location import Address

__all__ = ["ConnectionPool"]


class ConnectionPool:
    """Opens, keeps and closes connections."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._shared: dict[Address, PipelinedConnection] = {}
        self._gate = Gate()
        self._dedicated: set[PipelinedConnection] = set()
        self._closing: set[Task[None]] = set()

    def ready(self, address: Address) -> PipelinedConnection | None:
        """Return the shared connection to a server, or None if it is not open."""
        connection = self._shared.get(address)
        return connection if connection is not None and connection.alive else None

    async def get(self, address: Address) -> PipelinedConnection:
        """Return the shared connection to a server. The first caller opens it.

        Raises:
            BackendClosedError: The pool was closed.
            RedisError: The server is not reachable, or refuses the login.
            TimeoutError: The server did not answer in time.
        """
        connection = self.ready(address)
        if connection is not None:
            return connection
        self._gate.check()
        return await self._gate.shared(
            address, lambda: self._open(address), name=f"brrr opens a connection to {address}"
        )

    async def open_dedicated(
        self, address: Address, *, extra_timeout: float = 0, on_message: OnMessage | None = None
    ) -> PipelinedConnection:
        """Open a connection for one caller, which later passes it to `discard`. Raises the same errors as `get`."""
        self._gate.check()
        connection = await self._connector.connect(address, extra_timeout=extra_timeout, on_message=on_message)
        self._dedicated.add(connection)
        if self._gate.closing:
            self.discard(connection)
            raise closed_error()
        return connection

    def discard(self, connection: PipelinedConnection, reason: Exception | None = None) -> None:
        """Start to close a connection. `close` waits until it is closed."""
        self._dedicated.discard(connection)
        if self._shared.get(connection.address) is connection:
            del self._shared[connection.address]
        task = connection.close(reason or ConnectionClosedError())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all connections. Commands without a reply end with `BackendClosedError`."""
        await self._gate.close()
        for connection in [*self._shared.values(), *self._dedicated]:
            self.discard(connection, closed_error())
        if self._closing:
            await wait(set(self._closing))

    async def _open(self, address: Address) -> PipelinedConnection:
        connection = await self._connector.connect(address)
        before = self._shared.get(address)
        self._shared[address] = connection
        if before is not None:
            self.discard(before)
        return connection
