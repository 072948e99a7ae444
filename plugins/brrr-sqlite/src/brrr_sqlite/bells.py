"""How the backends of one process on one file tell each other at once that a topic has something new."""

import os
from asyncio import AbstractEventLoop
from collections.abc import Callable, Collection
from pathlib import Path
from threading import Lock
from typing import Final, TypeAlias
from weakref import WeakValueDictionary

__all__ = ["Bell", "bell_of"]

Wake: TypeAlias = Callable[[Collection[str]], None]


class Bell:
    """Rung by any backend of the file, in any thread; heard by all the others, each on its own loop."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._hearers: dict[Wake, AbstractEventLoop] = {}

    def join(self, wake: Wake, loop: AbstractEventLoop) -> None:
        """Have `wake` called on `loop`, with the topics, when another hearer rings."""
        with self._lock:
            self._hearers[wake] = loop

    def leave(self, wake: Wake) -> None:
        """Be called no more. Leaving twice does nothing."""
        with self._lock:
            self._hearers.pop(wake, None)

    def ring(self, topics: Collection[str], but: Wake) -> None:
        """Wake all hearers but one."""
        with self._lock:
            others = [(wake, loop) for wake, loop in self._hearers.items() if wake != but]
        for wake, loop in others:
            try:
                loop.call_soon_threadsafe(wake, topics)
            except RuntimeError:  # a loop that was closed with its backend open
                self.leave(wake)


# The one state of this module: backends that were opened apart meet here by their file. It holds only what is open.
_bells: Final[WeakValueDictionary[tuple[int, int], Bell]] = WeakValueDictionary()
_bells_lock = Lock()


def bell_of(path: Path) -> Bell:
    """The bell of a file that exists, the same for every name of it."""
    state = path.stat()
    identity = (state.st_dev, state.st_ino)
    with _bells_lock:
        bell = _bells.get(identity)
        if bell is None:
            bell = _bells[identity] = Bell()
        return bell


def _forget() -> None:
    global _bells_lock  # noqa: PLW0603 - the parent's may be held by one of its threads for ever
    _bells_lock = Lock()
    _bells.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)  # the parent's loops are not the child's
