"""The progress display of a waiting command: a moving line on a terminal, plain lines elsewhere, or nothing."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, Protocol

from rich.console import Console
from rich.status import Status

from brrr_core.backend.contracts import QueueStats
from brrr_core.cli.output import note

__all__ = ["Progress", "progress_of"]

MIN_INTERVAL: Final = 5.0
"""The minimum number of seconds between two plain lines."""


class Progress(Protocol):
    """Shows how long a command has waited."""

    def show(self, elapsed: float, stats: QueueStats | None) -> None:
        """Show the seconds waited, and the messages of the topic if known."""


@contextmanager
def progress_of(task_name: str, *, silent: bool) -> Generator[Progress, None, None]:
    """Show on the standard error that a call of `task_name` is awaited. The moving line disappears at the end."""
    console = Console(stderr=True)
    if silent:
        yield _Silence()
    elif console.is_terminal:
        with console.status(f"waiting for {task_name}") as status:
            yield _MovingLine(status, task_name)
    else:
        yield _PlainLines(task_name)


class _Silence:
    def show(self, elapsed: float, stats: QueueStats | None) -> None:
        """Show nothing."""


class _MovingLine:
    def __init__(self, status: Status, task_name: str) -> None:
        self._status = status
        self._task_name = task_name

    def show(self, elapsed: float, stats: QueueStats | None) -> None:
        """Update the line."""
        self._status.update(_line(self._task_name, elapsed, stats))


class _PlainLines:
    def __init__(self, task_name: str) -> None:
        self._task_name = task_name
        self._said: QueueStats | None = None
        self._said_at = -MIN_INTERVAL

    def show(self, elapsed: float, stats: QueueStats | None) -> None:
        """Write a line if the figures changed, at most every `MIN_INTERVAL` seconds."""
        if elapsed - self._said_at >= MIN_INTERVAL and (stats is None or stats != self._said):
            self._said, self._said_at = stats, elapsed
            note(_line(self._task_name, elapsed, stats))


def _line(task_name: str, elapsed: float, stats: QueueStats | None) -> str:
    line = f"waiting for {task_name}, {elapsed:.0f} s"
    if stats is None:
        return line
    return f"{line}: {stats.ready} ready, {stats.leased} leased, {stats.delayed} delayed, {stats.dead} dead"
