"""The services that all deliveries of one connection share, and the gate that admits their handlers."""

import asyncio
from dataclasses import dataclass

from brrr_core.engine.control import Control
from brrr_core.engine.hooks import Hooks
from brrr_core.engine.local_cache import RunHistory, ValueCache
from brrr_core.engine.operations import Operations
from brrr_core.engine.policy import Policy
from brrr_core.engine.returning import Reassigner, Returner
from brrr_core.engine.roots import SpawnBudget
from brrr_core.engine.scheduling import Scheduler
from brrr_core.engine.silence import Silence
from brrr_core.engine.threads import HandlerThreads
from brrr_core.safe_text import Mask

__all__ = ["IsolationGate", "Services"]


@dataclass(frozen=True, slots=True)
class Services:
    """The services that all deliveries of one connection share."""

    operations: Operations
    budget: SpawnBudget
    scheduler: Scheduler
    reassigner: Reassigner
    returner: Returner
    control: Control
    cache: ValueCache
    history: RunHistory
    hooks: Hooks
    policy: Policy
    mask: Mask
    """Masks the secrets of the backends in the reasons of dead letters and hooks."""
    isolation: "IsolationGate"
    """Admits handlers, one at a time if it may crash the worker."""
    silence: Silence
    threads: HandlerThreads
    """Runs sync handlers."""


class IsolationGate:
    """Admits handlers, each for a holder. An isolated handler enters when no other handler is inside.

    While an isolated handler waits, no other handler enters. Otherwise it would wait forever on a busy worker.
    """

    def __init__(self) -> None:
        self._running: set[object] = set()
        self._isolated: list[object] = []
        self._changed = asyncio.Event()

    @property
    def closed(self) -> bool:
        """Whether an isolated handler runs or waits."""
        return bool(self._isolated)

    async def wait_until_open(self) -> None:
        """Wait until no isolated handler runs or waits."""
        while self._isolated:
            await self._wait_for_change()

    def enter_at_once(self, holder: object) -> bool:
        """Enter together with other handlers, if the gate is open. Return whether it is."""
        if not self._isolated:
            self._running.add(holder)
        return not self._isolated

    async def enter(self, holder: object) -> None:
        """Enter together with other handlers, when the gate is open."""
        while not self.enter_at_once(holder):
            await self.wait_until_open()

    async def enter_alone(self, holder: object) -> None:
        """Enter alone. Isolated handlers enter in the order of their arrival."""
        self._isolated.append(holder)
        try:
            while self._running or self._isolated[0] is not holder:
                await self._wait_for_change()
            self._running.add(holder)
        finally:
            if holder not in self._running:
                self.leave(holder)

    def leave(self, holder: object) -> None:
        """Leave, if the holder is inside, and admit the next."""
        self._running.discard(holder)
        if self._isolated:
            if holder in self._isolated:
                self._isolated.remove(holder)
            self._changed.set()

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
