"""News between the backends of one file: topics that may have new messages, and calls that have a new value."""

from asyncio import AbstractEventLoop
from collections.abc import Collection
from pathlib import Path

from brrr_core.backend import Wake, Watches
from brrr_sqlite.hints import HintFile, hint_of_topic, hint_of_value
from brrr_sqlite.notifier import notifier_for
from brrr_sqlite.receivers import Receivers

__all__ = ["News"]


class News:
    """The news that one backend tells and hears: in its own process from a `Notifier`, from others from a `HintFile`.

    Args:
        path: The file.
        receivers: The receivers of the backend.
        loop: Its event loop.
    """

    def __init__(self, path: Path, receivers: Receivers, *, loop: AbstractEventLoop) -> None:
        self._receivers = receivers
        self._watches = Watches()
        self._watched: dict[bytes, str] = {}
        self._neighbours = notifier_for(path)
        self._neighbours.subscribe(self._hear, loop)
        self._hints = HintFile(path.resolve(), loop=loop, on_hints=self._hear_hints)

    def tell(self, topics: Collection[str], call_hashes: Collection[str]) -> None:
        """Tell the other backends, and the watches of this one, after a commit."""
        self._watches.wake(call_hashes)
        self._neighbours.notify(topics, call_hashes, sender=self._hear)
        self._hints.tell([*map(hint_of_topic, topics), *map(hint_of_value, call_hashes)])

    def listen(self) -> bool:
        """Begin to hear from other processes. Return whether they can be heard."""
        return self._hints.listen()

    def watch(self, call_hash: str, wake: Wake) -> bool:
        """Add a watch, and begin to listen. Return whether other processes can be heard."""
        self._watches.add(call_hash, wake)
        self._watched[hint_of_value(call_hash)] = call_hash
        return self.listen()

    def unwatch(self, call_hash: str, wake: Wake) -> None:
        """Remove a watch."""
        if self._watches.remove(call_hash, wake):
            del self._watched[hint_of_value(call_hash)]

    def stop(self) -> None:
        """Hear nothing more, and wake the watches."""
        self._neighbours.unsubscribe(self._hear)
        self._watches.wake_all()

    def close(self) -> None:
        """Tell nothing more."""
        self._hints.close()

    def remove_file(self) -> None:
        """Remove the file of hints: no process has the database open."""
        self._hints.remove()

    def _hear(self, topics: Collection[str], call_hashes: Collection[str]) -> None:
        self._receivers.wake(topics)
        self._watches.wake(call_hashes)

    def _hear_hints(self, hints: Collection[bytes] | None) -> None:
        if hints is None:
            self._receivers.wake(self._receivers.topics)
            self._watches.wake_all()
        else:
            self._receivers.wake([topic for topic in self._receivers.topics if hint_of_topic(topic) in hints])
            self._watches.wake([self._watched[hint] for hint in hints if hint in self._watched])
