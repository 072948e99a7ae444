"""The connections of one backend: a shared one to each server, and dedicated ones for blocking commands."""

from asyncio import Task, wait
from typing import Any

from brrr_core.backend import cancelled_from_outside, closed_error, start_task
from brrr_redis.client.connection import OnMessage, PipelinedConnection
from brrr_redis.client.errors import ConnectionClosedError
from brrr_redis.client.login import Connector
from brrr_redis.location import Address

__all__ = ["ConnectionPool", "retrieve_exception"]


def retrieve_exception(task: Task[Any]) -> None:
    """Retrieve the exception of a task whose waiters may all be cancelled, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()


class ConnectionPool:
    """Opens, keeps and closes connections."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._shared: dict[Address, PipelinedConnection] = {}
        self._opening: dict[Address, Task[PipelinedConnection]] = {}
        self._dedicated: set[PipelinedConnection] = set()
        self._closing: set[Task[None]] = set()
        self._closed = False

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
        if self._is_closed():
            raise closed_error()
        task = self._opening.get(address)
        if task is None:
            task = self._opening[address] = start_task(
                self._open(address), name=f"brrr opens a connection to {address}"
            )
            task.add_done_callback(retrieve_exception)
            task.add_done_callback(lambda _: self._opening.pop(address))
        await wait({task})
        if task.cancelled():
            raise closed_error() if self._is_closed() else cancelled_from_outside()
        return task.result()

    async def open_dedicated(
        self, address: Address, *, extra_timeout: float = 0, on_message: OnMessage | None = None
    ) -> PipelinedConnection:
        """Open a connection for one caller, who passes it to `discard`. Raises the same errors as `get`."""
        if self._is_closed():
            raise closed_error()
        connection = await self._connector.connect(address, extra_timeout=extra_timeout, on_message=on_message)
        self._dedicated.add(connection)
        if self._is_closed():
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
        self._closed = True
        for task in self._opening.values():
            task.cancel()
        if self._opening:
            await wait(set(self._opening.values()))
        for connection in [*self._shared.values(), *self._dedicated]:
            self.discard(connection, closed_error())
        if self._closing:
            await wait(set(self._closing))

    def _is_closed(self) -> bool:
        return self._closed

    async def _open(self, address: Address) -> PipelinedConnection:
        connection = await self._connector.connect(address)
        before = self._shared.get(address)
        self._shared[address] = connection
        if before is not None:
            self.discard(before)
        return connection
