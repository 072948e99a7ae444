"""The watches of a notifier: which functions to call when a value is created."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

from brrr_core.backend.contracts import Key
from brrr_core.backend.expiry import call_record_of

__all__ = ["Wake", "Watches", "is_awaited"]

Wake: TypeAlias = Callable[[], None]
"""A function that wakes a client. Only the event loop of the backend calls it."""


def is_awaited(key: Key) -> bool:
    """Whether clients may wait for a record: it is the value of a call, and not a record of the engine's own."""
    return call_record_of(key) is not None


class Watches:
    """The functions to wake, by the hash of the call for whose value each waits. All belong to one event loop."""

    def __init__(self) -> None:
        self._wakes: dict[str, list[Wake]] = {}

    def __bool__(self) -> bool:
        return bool(self._wakes)

    def __contains__(self, call_hash: str) -> bool:
        return call_hash in self._wakes

    @property
    def call_hashes(self) -> list[str]:
        """The watched calls."""
        return list(self._wakes)

    def add(self, call_hash: str, wake: Wake) -> None:
        """Add a watch. The same one twice counts once."""
        wakes = self._wakes.setdefault(call_hash, [])
        if wake not in wakes:
            wakes.append(wake)

    def remove(self, call_hash: str, wake: Wake) -> bool:
        """Remove a watch. Return whether it was the last one of its call."""
        wakes = self._wakes.get(call_hash, [])
        if wake not in wakes:
            return False
        wakes.remove(wake)
        if not wakes:
            del self._wakes[call_hash]
        return not wakes

    def wake(self, call_hashes: Iterable[str]) -> None:
        """Wake everything that waits for these calls."""
        for call_hash in call_hashes:
            for wake in tuple(self._wakes.get(call_hash, ())):
                wake()

    def wake_all(self) -> None:
        """Wake everything: hints may have been lost, or the backend closes."""
        self.wake(self.call_hashes)
