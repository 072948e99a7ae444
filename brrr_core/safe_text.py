"""Bounded `str`, `repr` and tracebacks of foreign objects. They never raise.

An exception can have a `__str__` that raises, a message of a gigabyte, half a surrogate pair or a thousand causes.
Dead letters, log lines and errors must still be able to quote it.

Secrets are masked before a text is cut: a cut inside a secret would leave a part that the mask does not recognize.
"""

import base64
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Final, TypeAlias, cast

__all__ = [
    "TEXT_LIMIT",
    "Mask",
    "class_name",
    "describe",
    "first_line",
    "format_error",
    "format_traceback",
    "safe_repr",
    "safe_str",
    "sentence",
    "shown_bytes",
    "without_controls",
]

TEXT_LIMIT: Final = 16 * 1024
"""The most characters of a text that are kept."""

LINE_LIMIT: Final = 1_000
"""The most characters of a line that a note keeps."""

MARGIN: Final = 64 * 1024
"""Characters beyond a cut that are masked too, but not kept. They exceed the written length of a secret, even
percent-encoded. Masking takes 0.1 s for a million characters, so a huge text is not masked as a whole."""

Mask: TypeAlias = Callable[[str], str]
"""Replaces the secrets in a text."""

EXCEPTIONS_LIMIT: Final = 200
"""The most exceptions that the standard library may format: causes, contexts and group members included."""

CUT: Final = "\n…\n"

ENTRY: Final = "brrr_core.app.tasks"
"""The module whose frame calls a handler."""

BETWEEN: Final = ("brrr_core", "concurrent")
"""The packages of the frames between `ENTRY` and the handler: a sync handler runs in a thread."""


def safe_str(value: object, *, mask: Mask = str) -> str:
    """Return `str(value)`, masked, cut at `TEXT_LIMIT` characters and without lone surrogates."""
    return _text(lambda: str(value), value, mask)


def safe_repr(value: object) -> str:
    """Return `repr(value)`, cut at `TEXT_LIMIT` characters and without lone surrogates."""
    return _text(lambda: repr(value), value, str)


def describe(error: BaseException, *, mask: Mask = str) -> str:
    """Return the class and the message of an error: `ValueError: no such thing`."""
    name, message = class_name(error), safe_str(error, mask=mask)
    return f"{name}: {message}" if message else name


def format_error(error: BaseException, *, mask: Mask = str) -> str:
    """Return the class, the message and the notes of an error, in this order, masked and cut at `TEXT_LIMIT`."""
    text = _standard(error, lambda: "".join(traceback.format_exception_only(error)))
    if text is None:
        return describe(error, mask=mask)
    if isinstance(error, SyntaxError):
        text = f"{describe(error, mask=mask)}\n{text}"  # Python's text begins with the file and the line
    return _beginning(text, TEXT_LIMIT, mask).strip()


def format_traceback(error: BaseException, *, mask: Mask = str) -> str:
    """Return the traceback of an error. If it is longer than `TEXT_LIMIT` characters, its middle is left out.

    It is masked. It begins at the code of the handler, without the frames of the worker.
    """
    trace = _from_handler(error.__traceback__)
    text = _standard(error, lambda: "".join(traceback.format_exception(type(error), error, trace)))
    if text is None:
        frames = _guarded(lambda: "".join(traceback.format_tb(trace))) or ""
        text = f"Traceback (most recent call last):\n{frames}{describe(error, mask=mask)}\n"
    half = (TEXT_LIMIT - len(CUT)) // 2
    if len(text) <= TEXT_LIMIT:
        return mask(text)
    return f"{_beginning(text, half, mask)}{CUT}{_end(text, half, mask)}"


def shown_bytes(data: bytes) -> str:
    """Return bytes as text if they are printable text, else as base64."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    return text if text.isprintable() and (text or not data) else f"base64:{base64.b64encode(data).decode()}"


def first_line(text: str) -> str:
    """Return the first line of a text, at most `LINE_LIMIT` characters of it, without lone surrogates."""
    return text.partition("\n")[0][:LINE_LIMIT].encode(errors="replace").decode()


def without_controls(text: str) -> str:
    """Return the text with escapes in place of characters that a terminal may obey. Tabs and line breaks stay."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in "\n\t" else ascii(each)[1:-1] for each in text)


def sentence(text: str) -> str:
    """Return the text with a full stop, unless the text of another error at its end already has one."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def _text(make: Callable[[], str], value: object, mask: Mask) -> str:
    text = _guarded(make)
    if text is None:
        return f"<a {class_name(value)} that cannot be shown>"
    return mask(text) if len(text) <= TEXT_LIMIT else f"{_beginning(text, TEXT_LIMIT, mask)}…"


def _beginning(text: str, length: int, mask: Mask) -> str:
    """Return at most `length` characters from the beginning of a text, and no part of a secret."""
    if len(text) > length + MARGIN:
        text = mask(text[: length + MARGIN])
        return text[:-MARGIN][:length]  # the margin may end inside a secret
    return mask(text)[:length]


def _end(text: str, length: int, mask: Mask) -> str:
    """Return at most `length` characters from the end of a text, and no part of a secret."""
    if len(text) > length + MARGIN:
        text = mask(text[-length - MARGIN :])
        return text[MARGIN:][-length:]
    return mask(text)[-length:]


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


def class_name(value: object) -> str:
    """Return the qualified name of the class of an object."""
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
