"""`brrr worker --log json`: each line of the log as a JSON object, with the fields of its event."""

import json
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import wraps
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

from brrr_cli.secrets import Secrets
from brrr_core.errors import MalformedRecordError
from brrr_core.hooks import PROJECT
from brrr_core.safe_text import format_traceback
from brrr_core.wire import decode_message

__all__ = ["JsonFormatter", "with_fields"]

_Field: TypeAlias = str | int | float | bool | list[str] | None

_event: Final[ContextVar[Any]] = ContextVar("event", default=None)
"""The event that a hook logs right now."""


class JsonFormatter(logging.Formatter):
    """Formats log records as JSON, without the secrets of the process' URLs.

    Args:
        secrets: The secrets to mask.
    """

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self._mask = secrets.mask

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        fields: dict[str, _Field] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        if record.name.startswith(PROJECT) and (event := _event.get()) is not None:
            fields |= _fields(event)
        if record.exc_info and record.exc_info[1] is not None:
            fields["traceback"] = format_traceback(record.exc_info[1], mask=self._mask).rstrip()
        masked = {name: self._mask(value) if isinstance(value, str) else value for name, value in fields.items()}
        return json.dumps(masked)


def with_fields(log: object) -> object:
    """Return a hook plugin with the hooks of a log, whose records get the fields of their events."""
    hooks = {name: getattr(log, name) for name in dir(log) if hasattr(getattr(log, name), f"{PROJECT}_impl")}
    return SimpleNamespace(**{name: _with_event(hook) for name, hook in hooks.items()})


def _with_event(hook: Callable[..., None]) -> Callable[..., None]:
    @wraps(hook)  # keeps the mark of a hook
    def hook_with_event(event: Any) -> None:
        token = _event.set(event)
        try:
            hook(event=event)
        finally:
            _event.reset(token)

    del hook_with_event.__dict__["__wrapped__"]  # pluggy would look for the parameters there, and find `self`
    return hook_with_event


def _fields(event: Any) -> Mapping[str, _Field]:
    """Return the name of an event, and its fields that JSON can hold. A message becomes its root id and call hash."""
    fields: dict[str, _Field] = {"event": re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()}
    for name, value in event._asdict().items():
        if isinstance(value, str | int | float | None):
            fields[name] = value
        elif isinstance(value, BaseException):
            fields["error_type"] = type(value).__qualname__
        elif isinstance(value, bytes):
            with suppress(MalformedRecordError):
                fields["root_id"], fields["call_hash"] = decode_message(value)
        elif name == "task_names":
            fields[name] = list(value)
    return fields
