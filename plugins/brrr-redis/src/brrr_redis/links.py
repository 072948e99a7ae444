"""The links of one backend: one to each server, shared, and those that block."""

from asyncio import Task, wait
from typing import Any

from brrr_core.backend import cancelled_from_outside, start_task
from brrr_redis.dialling import Dialler
from brrr_redis.failures import LinkClosedError, closed
from brrr_redis.link import Link
from brrr_redis.location import Address

__all__ = ["Links", "seen"]


def seen(task: Task[Any]) -> None:
    """Look at how a task ended: those who would were cancelled, it may be, and asyncio complains of what nobody saw."""
    if not task.cancelled():
        task.exception()


class Links:
    """Opens links, keeps them, and closes them all."""

    def __init__(self, dialler: Dialler) -> None:
        self._dialler = dialler
        self._shared: dict[Address, Link] = {}
        self._opening: dict[Address, Task[Link]] = {}
        self._own: set[Link] = set()
        self._ending: set[Task[None]] = set()
        self._closed = False

    def ready(self, address: Address) -> Link | None:
        """The shared link to a server, if there is one."""
        link = self._shared.get(address)
        return link if link is not None and link.alive else None

    async def get(self, address: Address) -> Link:
        """The shared link to a server, opened by the first who asks.

        Raises:
            BackendClosedError: The links were closed.
            RedisError: There is no connection, or the server refuses the login.
            TimeoutError: It takes too long.
        """
        link = self.ready(address)
        if link is not None:
            return link
        if self._ended():
            raise closed()
        task = self._opening.get(address)
        if task is None:
            task = self._opening[address] = start_task(self._open(address), name=f"brrr opens a link to {address}")
            task.add_done_callback(seen)
            task.add_done_callback(lambda _: self._opening.pop(address))
        await wait({task})
        if task.cancelled():
            raise closed() if self._ended() else cancelled_from_outside()
        return task.result()

    async def new(self, address: Address, *, patience: float) -> Link:
        """A link of the caller's own, to be given to `end`. Raises what `get` raises."""
        if self._ended():
            raise closed()
        link = await self._dialler.dial(address, patience=patience)
        self._own.add(link)
        if self._ended():
            self.end(link)
            raise closed()
        return link

    def end(self, link: Link, why: Exception | None = None) -> None:
        """Close a link; `close` waits until that is done."""
        self._own.discard(link)
        if self._shared.get(link.address) is link:
            del self._shared[link.address]
        task = link.end(why or LinkClosedError())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Close all links. What waits for an answer gets `BackendClosedError`."""
        self._closed = True
        for task in self._opening.values():
            task.cancel()
        if self._opening:
            await wait(set(self._opening.values()))
        for link in [*self._shared.values(), *self._own]:
            self.end(link, closed())
        if self._ending:
            await wait(set(self._ending))

    def _ended(self) -> bool:
        return self._closed

    async def _open(self, address: Address) -> Link:
        link = await self._dialler.dial(address)
        before = self._shared.get(address)
        self._shared[address] = link
        if before is not None:
            self.end(before)
        return link
