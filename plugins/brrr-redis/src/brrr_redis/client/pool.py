"""The pool of one backend: one to each server, shared, and those that block."""

from asyncio import Task, wait
from typing import Any

from brrr_core.backend import cancelled_from_outside, start_task
from brrr_redis.client.connection import PipelinedConnection
from brrr_redis.client.errors import ConnectionClosedError, closed_error
from brrr_redis.client.login import Connector
from brrr_redis.location import Address

__all__ = ["ConnectionPool", "retrieve_exception"]


def retrieve_exception(task: Task[Any]) -> None:
    """Look at how a task ended: those who would were cancelled, it may be, and asyncio complains of what nobody saw."""
    if not task.cancelled():
        task.exception()


class ConnectionPool:
    """Opens pool, keeps them, and closes them all."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._shared: dict[Address, PipelinedConnection] = {}
        self._opening: dict[Address, Task[PipelinedConnection]] = {}
        self._dedicated: set[PipelinedConnection] = set()
        self._ending: set[Task[None]] = set()
        self._closed = False

    def ready(self, address: Address) -> PipelinedConnection | None:
        """The shared connection to a server, if there is one."""
        connection = self._shared.get(address)
        return connection if connection is not None and connection.alive else None

    async def get(self, address: Address) -> PipelinedConnection:
        """The shared connection to a server, opened by the first who asks.

        Raises:
            BackendClosedError: The pool were closed.
            RedisError: There is no connection, or the server refuses the login.
            TimeoutError: It takes too long.
        """
        connection = self.ready(address)
        if connection is not None:
            return connection
        if self._ended():
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
            raise closed_error() if self._ended() else cancelled_from_outside()
        return task.result()

    async def open_dedicated(self, address: Address, *, extra_timeout: float) -> PipelinedConnection:
        """A connection of the caller's own, to be given to `end`. Raises what `get` raises."""
        if self._ended():
            raise closed_error()
        connection = await self._connector.connect(address, extra_timeout=extra_timeout)
        self._dedicated.add(connection)
        if self._ended():
            self.discard(connection)
            raise closed_error()
        return connection

    def discard(self, connection: PipelinedConnection, reason: Exception | None = None) -> None:
        """Close a connection; `close` waits until that is done."""
        self._dedicated.discard(connection)
        if self._shared.get(connection.address) is connection:
            del self._shared[connection.address]
        task = connection.close(reason or ConnectionClosedError())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Close all pool. What waits for an answer gets `BackendClosedError`."""
        self._closed = True
        for task in self._opening.values():
            task.cancel()
        if self._opening:
            await wait(set(self._opening.values()))
        for connection in [*self._shared.values(), *self._dedicated]:
            self.discard(connection, closed_error())
        if self._ending:
            await wait(set(self._ending))

    def _ended(self) -> bool:
        return self._closed

    async def _open(self, address: Address) -> PipelinedConnection:
        connection = await self._connector.connect(address)
        before = self._shared.get(address)
        self._shared[address] = connection
        if before is not None:
            self.discard(before)
        return connection
