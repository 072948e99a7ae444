"""The services that all deliveries of one connection share, and a delivery with its call."""

from dataclasses import dataclass

from brrr_core.engine.attempts import HeldDelivery
from brrr_core.engine.hooks import Hooks
from brrr_core.engine.isolation import IsolationGate
from brrr_core.engine.local_cache import RunHistory, ValueCache
from brrr_core.engine.operations import Operations
from brrr_core.engine.policy import Policy
from brrr_core.engine.returning import Returner
from brrr_core.engine.scheduling import Scheduler
from brrr_core.safe_text import Mask
from brrr_core.wire import Call

__all__ = ["Job", "Services"]


@dataclass(frozen=True, slots=True)
class Services:
    """The services that all deliveries of one connection share."""

    operations: Operations
    scheduler: Scheduler
    returner: Returner
    cache: ValueCache
    history: RunHistory
    hooks: Hooks
    policy: Policy
    delays: bool
    """Whether the queue can delay messages. If not, the worker holds a message during its delay."""
    mask: Mask
    """Masks the secrets of the backends in the reasons of dead letters and hooks."""
    isolation: IsolationGate
    """Admits handlers, one at a time if it may crash the worker."""


@dataclass(frozen=True, slots=True)
class Job:
    """A delivery and its call."""

    held: HeldDelivery
    root_id: str
    call: Call

    @property
    def topic(self) -> str:
        """Topic of the message."""
        return self.held.delivery.topic
