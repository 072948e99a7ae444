"""Bounded `str`, `repr` and tracebacks of foreign objects. They never raise.

An exception can have a `__str__` that raises, a message of a gigabyte, half a surrogate pair or a thousand causes.
Dead letters, log lines and errors must still be able to quote it.
"""

import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Final, cast

__all__ = ["TEXT_LIMIT", "describe", "format_error", "format_traceback", "safe_repr", "safe_str", "sentence"]

TEXT_LIMIT: Final = 16 * 1024
"""The most characters of a text that are kept."""

EXCEPTIONS_LIMIT: Final = 200
"""The most exceptions that the standard library may format: causes, contexts and group members included."""

CUT: Final = "\n…\n"

ENTRY: Final = "brrr_core.app.tasks"
"""The module whose frame calls a handler."""

BETWEEN: Final = ("brrr_core", "concurrent")
"""The packages of the frames between `ENTRY` and the handler: a sync handler runs in a thread."""


def safe_str(value: object, *, limit: int = TEXT_LIMIT) -> str:
    """Return `str(value)`, cut at `limit` characters and without lone surrogates."""
    return _text(lambda: str(value), value, limit)


def safe_repr(value: object, *, limit: int = TEXT_LIMIT) -> str:
    """Return `repr(value)`, cut at `limit` characters and without lone surrogates."""
    return _text(lambda: repr(value), value, limit)


def describe(error: BaseException, *, limit: int = TEXT_LIMIT) -> str:
    """Return the class and the message of an error: `ValueError: no such thing`."""
    name, message = _class_name(error), safe_str(error, limit=limit)
    return f"{name}: {message}" if message else name


def format_error(error: BaseException) -> str:
    """Return the class, the message and the notes of an error, in this order, cut at `TEXT_LIMIT` characters."""
    text = _standard(error, lambda: "".join(traceback.format_exception_only(error)))
    if text is None:
        return describe(error)
    if isinstance(error, SyntaxError):
        text = f"{describe(error)}\n{text}"  # Python's text begins with the file and the line
    return text[:TEXT_LIMIT].strip()


def format_traceback(error: BaseException) -> str:
    """Return the traceback of an error. If it is longer than `TEXT_LIMIT` characters, its middle is left out.

    It begins at the code of the handler, without the frames of the worker.
    """
    trace = _from_handler(error.__traceback__)
    text = _standard(error, lambda: "".join(traceback.format_exception(type(error), error, trace)))
    if text is None:
        frames = _guarded(lambda: "".join(traceback.format_tb(trace))) or ""
        text = f"Traceback (most recent call last):\n{frames}{describe(error)}\n"
    half = (TEXT_LIMIT - len(CUT)) // 2
    return text if len(text) <= TEXT_LIMIT else f"{text[:half]}{CUT}{text[-half:]}"


def sentence(text: str) -> str:
    """Return the text with a full stop, unless the text of another error at its end already has one."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def _text(make: Callable[[], str], value: object, limit: int) -> str:
    text = _guarded(make)
    if text is None:
        return f"<a {_class_name(value)} that cannot be shown>"
    return text if len(text) <= limit else f"{text[:limit]}…"


def _standard(error: BaseException, make: Callable[[], str]) -> str | None:
    """Return the standard library's text of an error; None if that raises or would take too long."""
    return _guarded(make) if _guarded(lambda: "" if _is_small(error) else None) is not None else None


def _guarded(make: Callable[[], str | None]) -> str | None:
    """Return the text as a plain `str` without lone surrogates; None if making it raises."""
    try:
        text = make()
        return None if text is None else str.encode(text, errors="backslashreplace").decode()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a foreign `__str__` can raise anything, SystemExit too
        return None


def _is_small(error: BaseException) -> bool:
    """Whether an error has few causes, contexts and members, so that Python can format it quickly."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left and len(seen) + len(left) <= EXCEPTIONS_LIMIT:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        left += (each.__cause__, each.__context__)
        if isinstance(each, BaseExceptionGroup):
            left += cast("BaseExceptionGroup[BaseException]", each).exceptions
    return not left


def _class_name(value: object) -> str:
    return _guarded(lambda: type.__getattribute__(type(value), "__qualname__")) or "object"


def _from_handler(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the frame of the handler on; the whole traceback if it has no such frame."""
    start = trace
    while start is not None and _module(start) != ENTRY:
        start = start.tb_next
    while start is not None and _module(start).partition(".")[0] in BETWEEN:
        start = start.tb_next
    return start or trace


def _module(trace: TracebackType) -> str:
    return safe_str(trace.tb_frame.f_globals.get("__name__"))
