"""Runs commands: finds the server of each command, and retries if a retry is safe and can help."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from redis.exceptions import AskError, MovedError, NoScriptError, RedisError

from brrr_core.backend import cancelled_from_outside, closed_error, pause
from brrr_core.errors import BrrrError
from brrr_redis.client.commands import Command
from brrr_redis.client.connection import OnMessage, PipelinedConnection, Reply
from brrr_redis.client.errors import NoReplyError, is_transient, may_have_moved, translate
from brrr_redis.client.routing import Router, SingleServerRouter
from brrr_redis.location import Address

__all__ = ["FIRST_PAUSE_SECONDS", "MAX_REDIRECTIONS", "Client", "gather"]

ResultT = TypeVar("ResultT")

FIRST_PAUSE_SECONDS: Final = 0.02
MAX_PAUSE_SECONDS: Final = 1.0
MAX_REDIRECTIONS: Final = 8
NOT_SENT: Final = NoReplyError(RedisError("not sent yet"), sent=False)
"""The reply to a command whose connection is not open yet."""


class Client:
    """Runs the commands of the queue, the store and the cache.

    Args:
        router: Finds the server of a key.
        servers: The servers that the URL names, for error messages.
        retry_for: Seconds for which a command is retried.
    """

    def __init__(self, router: Router, servers: str, *, retry_for: float) -> None:
        self.router = router
        self._servers = servers
        self._retry_for = retry_for
        self._closing = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def of(self, primary: Address) -> "Client":
        """Return a client that runs every command on this server."""
        return Client(SingleServerRouter(self.router.pool, primary), str(primary), retry_for=self._retry_for)

    async def connect(self) -> None:
        """Open the first connection.

        Raises:
            BackendUnavailableError: The server is not reachable.
            BackendRefusedError: The server answers, and refuses the connection.
        """
        try:
            await self.router.connection(b"")
        except (RedisError, OSError) as error:
            raise translate(NoReplyError(error, sent=False), self._servers) from error

    def check_open(self) -> None:
        """Raise `BackendClosedError` if the backend was closed."""
        if self._closing.is_set():
            raise closed_error()

    async def run(self, command: Command) -> Reply:
        """Run a command and return its reply.

        Raises:
            BackendUnavailableError: No reply came. Retries did not help, or were not safe.
            BackendError: The server refuses the command.
            BackendClosedError: The backend was closed.
        """
        self.check_open()
        connection = self.router.ready(command.key)
        if connection is None:
            return await self._retry(command, None, NOT_SENT)
        reply = await connection.send(command.words)
        return await self._retry(command, connection, reply) if isinstance(reply, Exception) else reply

    async def run_all(self, commands: Sequence[Command]) -> list[Reply]:
        """Send independent commands together and return their replies. Raises the same errors as `run`."""
        if len(commands) == 1:
            return [await self.run(commands[0])]
        if self._closing.is_set():
            raise closed_error()
        connections = [self.router.ready(command.key) for command in commands]
        if None in connections:  # open the connections to a cluster's servers one after another
            for command in commands:
                await self._open(command.key)
            connections = [self.router.ready(command.key) for command in commands]
        futures = [
            None if connection is None else connection.send(command.words)
            for command, connection in zip(commands, connections, strict=True)
        ]
        replies = [NOT_SENT if future is None else await future for future in futures]
        failed = [index for index, reply in enumerate(replies) if isinstance(reply, Exception)]
        if failed:
            retries = (self._retry(commands[index], connections[index], replies[index]) for index in failed)
            for index, reply in zip(failed, await gather(retries), strict=True):
                replies[index] = reply
        return replies

    async def pause(self, seconds: float) -> float:
        """Wait before another attempt, for at most `seconds`. Return the seconds of the next pause.

        Raises:
            BackendClosedError: The backend was closed.
        """
        return await pause(seconds, longest=MAX_PAUSE_SECONDS, closing=self._closing)

    async def blocking_connection(self, key: bytes, *, extra_timeout: float) -> PipelinedConnection:
        """Open a connection to the key's server for commands that block for `extra_timeout` seconds.

        Raises:
            BackendClosedError: The backend was closed.
            RedisError: The server is not reachable, or refuses the login.
            TimeoutError: The server did not answer in time.
        """
        return await self.router.pool.open_dedicated(await self.router.address(key), extra_timeout=extra_timeout)

    async def subscribing_connection(self, server: Address | None, on_message: OnMessage) -> PipelinedConnection:
        """Open a connection for subscriptions to a server, None for the only one, with messages to `on_message`.

        Raises as `blocking_connection`.
        """
        address = await self.router.address(b"") if server is None else server
        return await self.router.pool.open_dedicated(address, on_message=on_message)

    async def close(self) -> None:
        """Close every connection. Running commands end with `BackendClosedError`."""
        self._closing.set()
        await self.router.close()

    async def _open(self, key: bytes) -> None:
        with suppress(RedisError, OSError):  # `_retry` tries again, and raises the error
            await self.router.connection(key)

    async def _retry(self, command: Command, connection: PipelinedConnection | None, reply: Reply) -> Reply:
        """Retry after an error until a reply comes, a retry is not safe, or `retry_for` is over."""
        deadline, next_pause, redirections = self._loop.time() + self._retry_for, FIRST_PAUSE_SECONDS, 0
        while isinstance(reply, Exception):
            if isinstance(reply, NoScriptError):
                command = command.with_source()
            elif isinstance(reply, AskError) and connection is not None and redirections < MAX_REDIRECTIONS:
                redirections += 1
                address = self.router.redirected(reply, connection)
                if not isinstance(reply, MovedError):
                    connection, reply = await self._send_redirected(address, command)
                    continue
            elif reply is not NOT_SENT:
                command = self._command_for_retry(command, connection, reply)
                if may_have_moved(reply):
                    self.router.invalidate(connection)
                if self._loop.time() + next_pause > deadline:
                    raise translate(reply, self._server_name(connection))
                next_pause = await self.pause(next_pause)
            if self._closing.is_set():
                raise closed_error()
            try:
                connection = await self.router.connection(command.key)
            except (RedisError, OSError) as error:
                connection, reply = None, NoReplyError(error, sent=False)
            else:
                reply = await connection.send(command.words)
        return reply

    def _command_for_retry(self, command: Command, connection: PipelinedConnection | None, reply: Exception) -> Command:
        """Return the command to send again. Raises if a retry cannot help, or could apply an operation twice."""
        if isinstance(reply, BrrrError) or not is_transient(reply):
            raise translate(reply, self._server_name(connection))
        if isinstance(reply, NoReplyError):
            if isinstance(reply.cause, BrrrError):
                raise reply.cause
            if reply.sent:
                repeated = command.for_retry()
                if repeated is None:
                    raise translate(reply, self._server_name(connection))
                return repeated
        return command

    async def _send_redirected(self, address: Address, command: Command) -> tuple[PipelinedConnection | None, Reply]:
        """Send a command to the server that imports the slot (ASK)."""
        try:
            connection = await self.router.pool.get(address)
        except (RedisError, OSError) as error:
            return None, NoReplyError(error, sent=False)
        connection.send(("ASKING",))
        return connection, await connection.send(command.words)

    def _server_name(self, connection: PipelinedConnection | None) -> str:
        return self._servers if connection is None else str(connection.address)


async def gather(works: Iterable[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """Run operations concurrently. Return their results in order, or raise the error of the first that failed.

    Raises:
        BackendClosedError: Other code cancelled the task of an operation.
    """
    results: list[ResultT] = []
    for result in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(result, asyncio.CancelledError):
            raise cancelled_from_outside()
        if isinstance(result, BaseException):
            raise result
        results.append(result)
    return results
