"""News between the backends of one file: topics that may have new messages, and calls that have new values."""

from asyncio import AbstractEventLoop
from collections.abc import Collection
from pathlib import Path

from brrr_core.backend import Wake, Watches
from brrr_sqlite.hints import HintFile, hint_of_topic, hint_of_value
from brrr_sqlite.notifier import notifier_for
from brrr_sqlite.receivers import Receivers

__all__ = ["News"]


class News:
    """Sends and receives news for one backend: through a `Notifier` in its process, and a `HintFile` between processes.

    Args:
        path: The file.
        receivers: The receivers of the backend.
        loop: Its event loop.
    """

    def __init__(self, path: Path, receivers: Receivers, *, loop: AbstractEventLoop) -> None:
        self._receivers = receivers
        self._watches = Watches()
        self._hashes_by_hint: dict[bytes, str] = {}
        self._notifier = notifier_for(path)
        self._notifier.subscribe(self._on_news, loop)
        self._hints = HintFile(path.resolve(), loop=loop, on_hints=self._on_hints)

    def publish(self, topics: Collection[str], call_hashes: Collection[str]) -> None:
        """Notify the other backends, and the watches of this one. Call it after a commit."""
        self._watches.wake(call_hashes)
        self._notifier.notify(topics, call_hashes, sender=self._on_news)
        self._hints.append([*map(hint_of_topic, topics), *map(hint_of_value, call_hashes)])

    def listen(self) -> bool:
        """Start to receive news from other processes. Return whether that is possible."""
        return self._hints.listen()

    def watch(self, call_hash: str, wake: Wake) -> bool:
        """Add a watch, and start to listen. Return whether news from other processes can arrive."""
        self._watches.add(call_hash, wake)
        self._hashes_by_hint[hint_of_value(call_hash)] = call_hash
        return self.listen()

    def unwatch(self, call_hash: str, wake: Wake) -> None:
        """Remove a watch."""
        if self._watches.remove(call_hash, wake):
            del self._hashes_by_hint[hint_of_value(call_hash)]

    def stop(self) -> None:
        """Receive no more news, and wake all watches."""
        self._notifier.unsubscribe(self._on_news)
        self._watches.wake_all()

    def close(self) -> None:
        """Send no more news."""
        self._hints.close()

    def remove_file(self) -> None:
        """Remove the hint file, because no process has the database open."""
        self._hints.remove()

    def _on_news(self, topics: Collection[str], call_hashes: Collection[str]) -> None:
        self._receivers.wake(topics)
        self._watches.wake(call_hashes)

    def _on_hints(self, hints: Collection[bytes] | None) -> None:
        if hints is None:
            self._receivers.wake(self._receivers.topics)
            self._watches.wake_all()
        else:
            self._receivers.wake([topic for topic in self._receivers.topics if hint_of_topic(topic) in hints])
            self._watches.wake([self._hashes_by_hint[hint] for hint in hints if hint in self._hashes_by_hint])
