"""All that the author of a backend needs: contracts, manifests, options, checks, URLs, tasks and the gate.

The contract kit tests every rule of the contracts. `docs/how-to/write-a-backend.md` is the guide. The helpers that only
backends use are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from brrr_core.backend.checks import (
    LARGEST_COUNT,
    LARGEST_LIMIT,
    LONGEST_DURATION,
    LONGEST_NAME,
    check_amounts,
    check_bodies,
    check_delay,
    check_durations,
    check_items,
    check_keys,
    check_limit,
    check_step,
    check_swaps,
    check_topic,
    check_ttl,
    check_values,
    check_wait,
)
from brrr_core.backend.contracts import (
    CONTRACT_VERSION,
    Cache,
    DeadLetter,
    Delivery,
    Key,
    Kind,
    Notifier,
    Queue,
    QueueStats,
    Store,
    Swap,
)
from brrr_core.backend.inspection import Activity, Inspector, LetterBox, Peeked, StoredLetter
from brrr_core.backend.lifecycle import Backend, Roles
from brrr_core.backend.manifests import (
    BackendManifest,
    CacheCapabilities,
    NoOptions,
    QueueCapabilities,
    StoreCapabilities,
)
from brrr_core.backend.options import BackendUrl, Duration, Secret, Size, shown
from brrr_core.backend.steps import Count, Message, Reading, Received, Step, Steps, keys_of, split_message
from brrr_core.backend.tasks import (
    cancelled_from_outside,
    check_process,
    closed_error,
    finish_opening,
    pause,
    start_task,
)
from brrr_core.backend.translation import causes_of, translating
from brrr_core.backend.urls import ParsedUrl, mask_url, parse_url

if TYPE_CHECKING:
    from brrr_core.backend.expiry import REFRESH_SHARE, CallExpirer, call_record_of, may_expire
    from brrr_core.backend.gate import Gate
    from brrr_core.backend.names import NameEscape, encode_text
    from brrr_core.backend.receivers import WaitingReceivers
    from brrr_core.backend.swaps import rounds_of
    from brrr_core.backend.watches import Wake, Watches, is_awaited

__all__ = [
    "CONTRACT_VERSION",
    "LARGEST_COUNT",
    "LARGEST_LIMIT",
    "LONGEST_DURATION",
    "LONGEST_NAME",
    "REFRESH_SHARE",
    "Activity",
    "Backend",
    "BackendManifest",
    "BackendUrl",
    "Cache",
    "CacheCapabilities",
    "CallExpirer",
    "Count",
    "DeadLetter",
    "Delivery",
    "Duration",
    "Gate",
    "Inspector",
    "Key",
    "Kind",
    "LetterBox",
    "Message",
    "NameEscape",
    "NoOptions",
    "Notifier",
    "ParsedUrl",
    "Peeked",
    "Queue",
    "QueueCapabilities",
    "QueueStats",
    "Reading",
    "Received",
    "Roles",
    "Secret",
    "Size",
    "Step",
    "Steps",
    "Store",
    "StoreCapabilities",
    "StoredLetter",
    "Swap",
    "WaitingReceivers",
    "Wake",
    "Watches",
    "call_record_of",
    "cancelled_from_outside",
    "causes_of",
    "check_amounts",
    "check_bodies",
    "check_delay",
    "check_durations",
    "check_items",
    "check_keys",
    "check_limit",
    "check_process",
    "check_step",
    "check_swaps",
    "check_topic",
    "check_ttl",
    "check_values",
    "check_wait",
    "closed_error",
    "encode_text",
    "finish_opening",
    "is_awaited",
    "keys_of",
    "mask_url",
    "may_expire",
    "parse_url",
    "pause",
    "rounds_of",
    "shown",
    "split_message",
    "start_task",
    "translating",
]

_HELPERS: Final = ("expiry", "gate", "names", "receivers", "swaps", "watches")
"""The modules of the helpers, which are imported together."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        for home in _HELPERS:
            module = import_module(f"{__name__}.{home}")
            globals().update((each, getattr(module, each)) for each in module.__all__)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
