"""Notifications of new messages and values, between the backends of one process that have the same file open."""

import os
from asyncio import AbstractEventLoop
from collections.abc import Callable, Collection
from pathlib import Path
from threading import Lock
from typing import Final, TypeAlias
from weakref import WeakValueDictionary

__all__ = ["Notifier", "notifier_for"]

OnNews: TypeAlias = Callable[[Collection[str], Collection[str]], None]
"""Called with topics that may have new messages, and with calls that have new values."""


class Notifier:
    """Notifies the backends of one file, from any thread. Each backend is called on its own event loop."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._subscribers: dict[OnNews, AbstractEventLoop] = {}

    def subscribe(self, on_news: OnNews, loop: AbstractEventLoop) -> None:
        """Call `on_news` on `loop`, each time another subscriber notifies."""
        with self._lock:
            self._subscribers[on_news] = loop

    def unsubscribe(self, on_news: OnNews) -> None:
        """Stop calling `on_news`. A second call does nothing."""
        with self._lock:
            self._subscribers.pop(on_news, None)

    def notify(self, topics: Collection[str], call_hashes: Collection[str], *, sender: OnNews) -> None:
        """Call all subscribers except the sender."""
        with self._lock:
            others = [(on_news, loop) for on_news, loop in self._subscribers.items() if on_news != sender]
        for on_news, loop in others:
            try:
                loop.call_soon_threadsafe(on_news, topics, call_hashes)
            except RuntimeError:  # the loop was closed while its backend was open
                self.unsubscribe(on_news)


# Through this dict, separately opened backends of one file find each other. An entry lives only while a backend holds
# it.
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
