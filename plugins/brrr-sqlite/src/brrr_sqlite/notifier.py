"""Notifications between the backends of one process that have the same file open: a topic may have new messages."""

import os
from asyncio import AbstractEventLoop
from collections.abc import Callable, Collection
from pathlib import Path
from threading import Lock
from typing import Final, TypeAlias
from weakref import WeakValueDictionary

__all__ = ["Notifier", "notifier_for"]

Wake: TypeAlias = Callable[[Collection[str]], None]


class Notifier:
    """Notify the backends of one file, from any thread. Each backend is called on its own event loop."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._subscribers: dict[Wake, AbstractEventLoop] = {}

    def subscribe(self, wake: Wake, loop: AbstractEventLoop) -> None:
        """Call `wake` on `loop` with the topics, each time another subscriber notifies."""
        with self._lock:
            self._subscribers[wake] = loop

    def unsubscribe(self, wake: Wake) -> None:
        """Stop calling `wake`. A second call does nothing."""
        with self._lock:
            self._subscribers.pop(wake, None)

    def notify(self, topics: Collection[str], *, sender: Wake) -> None:
        """Wake all subscribers except the sender."""
        with self._lock:
            others = [(wake, loop) for wake, loop in self._subscribers.items() if wake != sender]
        for wake, loop in others:
            try:
                loop.call_soon_threadsafe(wake, topics)
            except RuntimeError:  # the loop was closed while its backend was open
                self.unsubscribe(wake)


# The only state of this module: here, separately opened backends find each other by their file. An entry lives only
# while a backend holds it.
_notifiers: Final[WeakValueDictionary[tuple[int, int], Notifier]] = WeakValueDictionary()
_notifiers_lock = Lock()


def notifier_for(path: Path) -> Notifier:
    """Return the notifier of an existing file. All paths and links to the file share one notifier."""
    state = path.stat()
    identity = (state.st_dev, state.st_ino)
    with _notifiers_lock:
        notifier = _notifiers.get(identity)
        if notifier is None:
            notifier = _notifiers[identity] = Notifier()
        return notifier


def _reset_after_fork() -> None:
    global _notifiers_lock  # noqa: PLW0603 - a thread of the parent may have held the lock, and will never release it
    _notifiers_lock = Lock()
    _notifiers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)  # the event loops of the parent do not run in the child
