"""The output of commands: JSON for machines; lines, tables and the progress of a wait for people.

Functions import rich, since most commands, such as a worker, do not need it, and it takes a tenth of their start.
"""

import asyncio
import base64
import json
import math
import re
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from brrr_core.backend import QueueStats
from brrr_core.errors import CommandError
from brrr_core.safe_text import safe_str, shown_bytes, without_controls

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

__all__ = [
    "LiveLines",
    "Progress",
    "confirmed",
    "live_lines",
    "note",
    "progress_of",
    "shown",
    "write_json",
    "write_line",
    "write_table",
]

UNPRINTABLE: Final = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that JSON may contain, and that a terminal may obey: C1 controls, line separators and directions."""

MIN_INTERVAL: Final = 5.0
"""The minimum number of seconds between two plain lines."""


def write_line(text: str) -> None:
    """Write a line to the standard output. Control characters are escaped."""
    sys.stdout.write(f"{without_controls(text)}\n")


class LiveLines(Protocol):
    """Writes lines while a command works."""

    def write(self, text: str, *, style: str = "") -> None:
        """Write a line to the standard output immediately; `style` is a colour of rich, for terminals."""

    def show(self, text: str) -> None:
        """Show the progress below the lines, on a terminal."""


@contextmanager
def live_lines() -> Generator[LiveLines, None, None]:
    """Write lines one by one, even into a pipe. A terminal shows colours, and a progress line until the end."""
    from rich.console import Console

    console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
    if console.is_terminal:
        with console.status("") as status:
            yield _MovingLines(console, status)
    else:
        yield _FlushedLines()


def note(text: str) -> None:
    """Write a line to the standard error, separate from the result."""
    sys.stderr.write(f"{without_controls(text)}\n")
    sys.stderr.flush()


def write_json(value: object) -> None:
    """Write any value as one line of JSON: bytes as base64, NaN as null, times in ISO 8601, keys as text."""
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)
    sys.stdout.write(f"{UNPRINTABLE.sub(_json_escape, text)}\n")


def write_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write rows under column names. A terminal limits the width; other outputs do not."""
    from rich.console import Console

    console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        _write_plain([columns, *rows])
        return
    from rich.table import Table

    table = Table(*columns, box=None, pad_edge=False, show_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(without_controls, row))
    with console.capture() as captured:  # rich itself would end the process if the output is closed
        console.print(table)
    sys.stdout.write(captured.get())


def _write_plain(rows: Iterable[Sequence[str]]) -> None:
    """Write rows in columns, each on one line. Rich would take a millisecond for each."""
    from rich.cells import cell_len

    cells = [[without_controls(cell).replace("\n", "\\n") for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = [cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def shown(data: bytes) -> str:
    """Return bytes as text if they are printable text, else as base64."""
    return shown_bytes(data)


async def confirmed(question: str) -> bool:
    """Ask a question on the terminal. Return whether the answer is yes.

    Raises:
        CommandError: The input is not a terminal.
    """
    if not sys.stdin.isatty():
        raise CommandError(
            "the command needs a confirmation, and the input is not a terminal",
            remedy=f"Add --yes. The question is: {question}",
        )
    sys.stderr.write(f"{without_controls(question)} [y/N] ")
    sys.stderr.flush()
    answer = await _read_line()
    return answer.strip().lower() in {"y", "yes"}


async def _read_line() -> str:
    """Read a line from the terminal. A signal can cancel this; it could not end a thread that reads."""
    loop = asyncio.get_running_loop()
    typed = asyncio.Event()
    try:
        loop.add_reader(sys.stdin.fileno(), typed.set)
    except NotImplementedError:  # Windows
        return await asyncio.to_thread(sys.stdin.readline)
    try:
        await typed.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline()


class Progress(Protocol):
    """Shows how long a command has waited."""

    def show(self, elapsed: float, stats: QueueStats | None) -> None:
        """Show the seconds waited, and the messages of the topic if known."""


@contextmanager
def progress_of(task_name: str, *, silent: bool) -> Generator[Progress, None, None]:
    """Show on the standard error that a call of `task_name` is awaited. The progress line disappears at the end."""
    if silent:
        yield _Silence()
        return
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(f"waiting for {task_name}") as status:
            yield _MovingLine(status, task_name)
    else:
        yield _PlainLines(task_name)


def _json_escape(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]


def _plain(value: Any) -> object:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case datetime() | date() | time():
            return value.isoformat()
        case Mapping():
            members = cast("Mapping[object, object]", value)
            return {key if isinstance(key, str) else str(_plain(key)): _plain(each) for key, each in members.items()}
        case list() | tuple() | AbstractSet():
            return [_plain(each) for each in cast("Iterable[object]", value)]
        case _:
            return safe_str(value)


class _FlushedLines:
    def write(self, text: str, *, style: str = "") -> None:
        """Write a line without a style."""
        del style
        write_line(text)
        sys.stdout.flush()

    def show(self, text: str) -> None:
        """Show nothing."""


class _MovingLines:
    def __init__(self, console: "Console", status: "Status") -> None:
        self._console = console
        self._status = status

    def write(self, text: str, *, style: str = "") -> None:
        """Write a line above the progress line."""
        from rich.text import Text

        self._console.print(Text(without_controls(text), style=style), soft_wrap=True)

    def show(self, text: str) -> None:
        """Update the progress line."""
        from rich.text import Text

        self._status.update(Text(without_controls(text)))


class _Silence:
    def show(self, elapsed: float, stats: QueueStats | None) -> None:
        """Show nothing."""


class _MovingLine:
    def __init__(self, status: "Status", task_name: str) -> None:
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
