"""The contracts of queue, store, cache and backend, for users and plugin authors."""

from brrr_core.backend.contracts import (
    CONTRACT_VERSION,
    Cache,
    DeadLetter,
    Delivery,
    Key,
    Kind,
    Queue,
    QueueStats,
    Store,
    Swap,
)
from brrr_core.backend.lifecycle import Backend, Roles, check_process
from brrr_core.backend.options import BackendUrl, Duration, Secret, Size, shown
from brrr_core.backend.tasks import cancelled_from_outside, closed_error, pause, start_task

__all__ = [
    "CONTRACT_VERSION",
    "Backend",
    "BackendUrl",
    "Cache",
    "DeadLetter",
    "Delivery",
    "Duration",
    "Key",
    "Kind",
    "Queue",
    "QueueStats",
    "Roles",
    "Secret",
    "Size",
    "Store",
    "Swap",
    "cancelled_from_outside",
    "check_process",
    "closed_error",
    "pause",
    "shown",
    "start_task",
]
