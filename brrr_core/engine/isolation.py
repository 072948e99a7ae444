"""Where the handlers of a connection run: many side by side, or one alone that may be what ends its worker process."""

import asyncio

__all__ = ["IsolationGate"]


class IsolationGate:
    """Lets in handlers, each on behalf of a holder. One that is to run alone waits until the floor is empty.

    While one waits so, no other is let in: otherwise it would wait for ever on a busy worker.
    """

    def __init__(self) -> None:
        self._inside: set[object] = set()
        self._isolated: list[object] = []
        self._changed = asyncio.Event()

    @property
    def closed(self) -> bool:
        """Whether a handler runs alone or waits to."""
        return bool(self._isolated)

    async def wait_until_open(self) -> None:
        """Wait until no handler runs alone or waits to."""
        while self._isolated:
            await self._change()

    async def enter(self, holder: object) -> None:
        """Let in a handler beside others."""
        await self.wait_until_open()
        self._inside.add(holder)

    async def enter_alone(self, holder: object) -> None:
        """Let in a handler that runs alone, after those that asked before."""
        self._isolated.append(holder)
        try:
            while self._inside or self._isolated[0] is not holder:
                await self._change()
            self._inside.add(holder)
        finally:
            if holder not in self._inside:
                self.leave(holder)

    def leave(self, holder: object) -> None:
        """Let out a handler, if it is in. The next may come."""
        self._inside.discard(holder)
        if self._isolated:
            if holder in self._isolated:
                self._isolated.remove(holder)
            self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
