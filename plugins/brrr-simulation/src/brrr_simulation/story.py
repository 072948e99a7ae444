"""Tell the story of a history with the names of its calls, and find the smallest history that still fails."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from re import sub
from typing import Any, Final, cast

from brrr_core.backend import Delivery, Key, Step, Swap
from brrr_core.errors import MalformedRecordError
from brrr_core.wire import decode_message
from brrr_simulation.history import Operation, Report, simulate

__all__ = ["Shrunk", "shrink", "side_by_side", "tell", "timeline"]

TRIES: Final = 300
"""The most histories in the search for a smaller one."""

SIZES: Final = (1, 2, 3, 5, 8, 12, 18, 25)
"""Numbers of calls of the smaller histories."""

SHOWN: Final = 400
"""The most lines of a story. If there are more, it has the last ones."""


@dataclass
class Shrunk:
    """A small history that fails.

    Attributes:
        report: Its report, with the trace.
        how: The arguments of `simulate` that repeat it.
        tries: How many histories were run to find it.
    """

    report: Report
    how: dict[str, Any]
    tries: int


def shrink(
    seed: int, run: Callable[..., Report] = simulate, *, sizes: Sequence[int] = SIZES, tries: int = TRIES
) -> Shrunk:
    """Find a smaller history of a seed that fails: first fewer calls, then fewer faults.

    Args:
        seed: A seed whose history fails.
        run: Runs a history, as `simulate` does.
        sizes: Numbers of calls to try, from the smallest.
        tries: The most histories to run.

    Raises:
        ValueError: The history does not fail.
    """
    count, how = 1, dict[str, Any]()
    report = run(seed)
    if not report.violations:
        raise ValueError(f"the history of seed {seed} does not fail")

    def fails(**changes: Any) -> bool:
        nonlocal count, report, how
        if count >= tries:
            return False
        count += 1
        tried = run(seed, **{**how, **changes})
        if tried.violations:
            report, how = tried, {**how, **changes}
        return bool(tried.violations)

    for size in sizes:
        if size < report.calls and fails(size=size):
            break
    part = max(1, len(report.faults) // 2)
    while True:
        numbers = [fault.number for fault in report.faults]
        parts = [numbers[at : at + part] for at in range(0, len(numbers), part)]
        dropped = frozenset(how.get("dropped", ()))
        if any(fails(dropped=dropped | {*each}) for each in reversed(parts)):
            continue
        if part == 1:
            break
        part = max(1, part // 2)
    return Shrunk(run(seed, **how, trace=True), how, count)


def tell(report: Report, how: dict[str, Any] | None = None) -> str:
    """Return the story of a traced history: its faults, its last operations and its violations.

    Args:
        report: The report.
        how: The arguments of `simulate`, for the last line.
    """
    wrong = [f"WRONG: {_named(each, report)}" for each in report.violations]
    arguments = "".join(f", {name}={_plain(value)!r}" for name, value in (how or {}).items())
    return "\n".join(
        [
            f"seed {report.seed}: {report.calls} calls, {report.workers} workers, {len(report.faults)} faults",
            *timeline(report),
            *wrong,
            f"Run it again: brrr_simulation.simulate({report.seed}{arguments})",
        ]
    )


def timeline(report: Report, *, shown: int = SHOWN) -> list[str]:
    """Return the last `shown` operations and faults, in the order of their times."""
    lines = [(each.at, _line(each, report)) for each in report.trace]
    lines += [(fault.at, f"{fault}") for fault in report.faults]
    lines.sort(key=lambda line: line[0])
    left_out = [f"… {len(lines) - shown} earlier lines are left out"] if len(lines) > shown else []
    return left_out + [text for _, text in lines[-shown:]]


def side_by_side(one: Sequence[str], other: Sequence[str], *, shown: int = 20) -> str:
    """Return the calls of two runs as a table of two columns, from a few rows before the first difference on."""
    rows = list(zip_longest(one, other, fillvalue="–"))  # noqa: RUF001 - an empty cell
    first = next((number for number, row in enumerate(rows) if row[0] != row[1]), 0)
    begin = max(0, first - 3)
    width = max(map(len, ("one run", *one)))
    lines = [f"call  {'one run':{width}}     its re-run"]
    for number, (left, right) in list(enumerate(rows, 1))[begin : begin + shown]:
        lines.append(f"{number:4}  {left:{width}}  {'  ' if left == right else '!='} {right}")
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    return sorted(cast("frozenset[int]", value)) if isinstance(value, frozenset) else value


def _line(operation: Operation, report: Report) -> str:
    what = ", ".join(dict.fromkeys(_item(item) for item in operation.items))
    return f"{operation.at:12.3f}  {operation.process:10} {operation.name} {_named(what, report)}".rstrip()


def _named(text: str, report: Report) -> str:
    """Replace hashes of calls by their names."""
    return sub(r"[0-9a-f]{64}", lambda found: report.names.get(found[0], found[0][:12]), text)


def _item(item: Any) -> str:
    if isinstance(item, Key):
        return f"{item.kind} of {item.call_hash}"
    if isinstance(item, Swap):
        return f"{item.key.kind} of {item.key.call_hash}{' to nothing' if item.new is None else ''}"
    if isinstance(item, Delivery):
        return _item(item.body)
    if isinstance(item, Step):
        return _step(item)
    if isinstance(item, bytes):
        try:
            return decode_message(item).call_hash
        except MalformedRecordError:
            return repr(item)
    if isinstance(item, tuple):
        return _item(item[0])
    return str(item)


def _step(step: Step) -> str:
    parts: Sequence[tuple[str, Sequence[Any]]] = (
        ("write", step.writes),
        ("put", [message.body for message in step.messages]),
        ("mark", step.marks),
        ("acknowledge", step.acks),
    )
    return "; ".join(f"{name} {', '.join(map(_item, items))}" for name, items in parts if items)
