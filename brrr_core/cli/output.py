"""The output of commands: JSON for machines, lines and tables for people."""

import base64
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time
from typing import Any, cast

from rich.console import Console
from rich.table import Table

from brrr_core.safe_text import safe_str

__all__ = ["note", "shown", "write_json", "write_line", "write_table"]


def write_line(text: str) -> None:
    """Write a line to the standard output. Control characters are escaped."""
    sys.stdout.write(f"{_escape_controls(text)}\n")


def note(text: str) -> None:
    """Write a line to the standard error, beside the result."""
    sys.stderr.write(f"{_escape_controls(text)}\n")
    sys.stderr.flush()


def write_json(value: object) -> None:
    """Write any value as one line of JSON: bytes as base64, NaN as null, times in ISO 8601, keys as text."""
    sys.stdout.write(f"{json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)}\n")


def write_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write rows under column names. A terminal limits the width; other outputs do not."""
    console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
    table = Table(*columns, box=None, pad_edge=False, show_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(_escape_controls, row))
    if not console.is_terminal:
        console.width = max(console.width, console.measure(table, options=console.options.update(width=10**6)).maximum)
    with console.capture() as captured:  # rich itself would end the process if the output is closed
        console.print(table)
    sys.stdout.write(captured.get())


def shown(data: bytes) -> str:
    """Return bytes as text if they are printable text, else as base64."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    return text if text.isprintable() and (text or not data) else f"base64:{base64.b64encode(data).decode()}"


def _escape_controls(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in "\n\t" else ascii(each)[1:-1] for each in text)


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
