"""Runs commands: finds their server, and tries again where that is safe and may help."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from random import uniform
from typing import Final

from redis.exceptions import AskError, MovedError, NoScriptError, RedisError

from brrr_core.backend import cancelled_from_outside
from brrr_core.errors import BrrrError
from brrr_redis.commands import Command
from brrr_redis.failures import Lost, closed, misplaced, passing, translated
from brrr_redis.link import Link, Reply
from brrr_redis.location import Address
from brrr_redis.routes import Routes

__all__ = ["Client"]

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
MOST_REDIRECTIONS: Final = 8
UNASKED: Final = Lost(RedisError("not asked yet"), sent=False)
"""Stands for the answer to a command whose link is still to be opened."""


class Client:
    """What the roles ask for commands.

    Args:
        routes: From keys to servers.
        where: What a URL says about servers, for errors.
        retry_for: Seconds for which a command is tried again.
    """

    def __init__(self, routes: Routes, where: str, *, retry_for: float) -> None:
        self.routes = routes
        self._where = where
        self._retry_for = retry_for
        self._closing = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def connect(self) -> None:
        """Make the first connection.

        Raises:
            BackendUnavailableError: There is no connection.
        """
        try:
            await self.routes.link(b"")
        except (RedisError, OSError) as error:
            raise translated(Lost(error, sent=False), self._where) from error

    async def run(self, command: Command) -> Reply:
        """The answer to a command.

        Raises:
            BackendUnavailableError: There was none, and trying again did not help, or was not safe.
            BackendError: The server refuses the command.
            BackendClosedError: The backend was closed.
        """
        if self._closing.is_set():
            raise closed()
        link = self.routes.ready(command.key)
        if link is None:
            return await self._insist(command, None, UNASKED)
        reply = await link.ask(command.words)
        return await self._insist(command, link, reply) if isinstance(reply, Exception) else reply

    async def run_all(self, commands: Sequence[Command]) -> list[Reply]:
        """The answers to commands that are independent of each other, sent together. Raises what `run` raises."""
        if len(commands) == 1:
            return [await self.run(commands[0])]
        if self._closing.is_set():
            raise closed()
        links = [self.routes.ready(command.key) for command in commands]
        if None in links:  # the first of a cluster's links are opened one after the other
            for command in commands:
                await self._warm(command.key)
            links = [self.routes.ready(command.key) for command in commands]
        asked = [
            None if link is None else link.ask(command.words) for command, link in zip(commands, links, strict=True)
        ]
        replies = [UNASKED if future is None else await future for future in asked]
        failed = [place for place, reply in enumerate(replies) if isinstance(reply, Exception)]
        if failed:
            tries = (self._insist(commands[place], links[place], replies[place]) for place in failed)
            for place, reply in zip(failed, await asyncio.gather(*tries, return_exceptions=True), strict=True):
                if isinstance(reply, BaseException):
                    raise cancelled_from_outside() if isinstance(reply, asyncio.CancelledError) else reply
                replies[place] = reply
        return replies

    async def pause(self, seconds: float) -> float:
        """Wait for about so long, or until the backend is closed. How long to wait next time.

        Raises:
            BackendClosedError: The backend was closed.
        """
        try:
            async with asyncio.timeout(uniform(seconds / 2, seconds)):  # noqa: S311 - jitter, not a secret
                await self._closing.wait()
        except TimeoutError:
            return min(2 * seconds, LONGEST_PAUSE)
        raise closed()

    async def blocking_link(self, key: bytes, *, patience: float) -> Link:
        """A link to the key's server for commands that block for `patience` seconds. Raises what `Links.new` raises."""
        return await self.routes.links.new(await self.routes.address(key), patience=patience)

    async def close(self) -> None:
        """Close every connection. What is under way ends with `BackendClosedError`."""
        self._closing.set()
        await self.routes.close()

    async def _warm(self, key: bytes) -> None:
        with suppress(RedisError, OSError):  # `_insist` tries again, and tells
            await self.routes.link(key)

    async def _insist(self, command: Command, link: Link | None, reply: Reply) -> Reply:
        """Go on from an error until there is an answer, or no more sense in trying."""
        deadline, pause, redirections = self._loop.time() + self._retry_for, FIRST_PAUSE, 0
        while isinstance(reply, Exception):
            if isinstance(reply, NoScriptError):
                command = command.spelled_out()
            elif isinstance(reply, AskError) and link is not None and redirections < MOST_REDIRECTIONS:
                redirections += 1
                address = self.routes.moved(reply, link)
                if not isinstance(reply, MovedError):
                    link, reply = await self._ask_at(address, command)
                    continue
            elif reply is not UNASKED:
                command = self._safe(command, link, reply)
                if misplaced(reply):
                    self.routes.doubt(link)
                if self._loop.time() + pause > deadline:
                    raise translated(reply, self._place(link))
                pause = await self.pause(pause)
            if self._closing.is_set():
                raise closed()
            try:
                link = await self.routes.link(command.key)
            except (RedisError, OSError) as error:
                link, reply = None, Lost(error, sent=False)
            else:
                reply = await link.ask(command.words)
        return reply

    def _safe(self, command: Command, link: Link | None, reply: Exception) -> Command:
        """The command to try again with. Raises where that is of no use, or could do something twice."""
        if isinstance(reply, BrrrError) or not passing(reply):
            raise translated(reply, self._place(link))
        if isinstance(reply, Lost):
            if isinstance(reply.cause, BrrrError):
                raise reply.cause
            if reply.sent:
                repeated = command.repeated()
                if repeated is None:
                    raise translated(reply, self._place(link))
                return repeated
        return command

    async def _ask_at(self, address: Address, command: Command) -> tuple[Link | None, Reply]:
        """Send a command to the server that a slot is just being moved to."""
        try:
            link = await self.routes.links.get(address)
        except (RedisError, OSError) as error:
            return None, Lost(error, sent=False)
        link.ask(("ASKING",))
        return link, await link.ask(command.words)

    def _place(self, link: Link | None) -> str:
        return self._where if link is None else str(link.address)
