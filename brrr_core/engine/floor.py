"""Where the handlers of a connection run: many side by side, or one alone that may be what ends its worker process."""

import asyncio

__all__ = ["Floor"]


class Floor:
    """Lets in handlers, each on behalf of a holder. One that is to run alone waits until the floor is empty.

    While one waits so, no other is let in: otherwise it would wait for ever on a busy worker.
    """

    def __init__(self) -> None:
        self._inside: set[object] = set()
        self._claims: list[object] = []
        self._changed = asyncio.Event()

    @property
    def claimed(self) -> bool:
        """Whether a handler runs alone or waits to."""
        return bool(self._claims)

    async def opened(self) -> None:
        """Wait until no handler runs alone or waits to."""
        while self._claims:
            await self._change()

    async def enter(self, holder: object) -> None:
        """Let in a handler beside others."""
        await self.opened()
        self._inside.add(holder)

    async def enter_alone(self, holder: object) -> None:
        """Let in a handler that runs alone, after those that asked before."""
        self._claims.append(holder)
        try:
            while self._inside or self._claims[0] is not holder:
                await self._change()
            self._inside.add(holder)
        finally:
            if holder not in self._inside:
                self.leave(holder)

    def leave(self, holder: object) -> None:
        """Let out a handler, if it is in. The next may come."""
        self._inside.discard(holder)
        if self._claims:
            if holder in self._claims:
                self._claims.remove(holder)
            self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
