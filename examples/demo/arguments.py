"""Convert a query string to arguments that match a handler's annotations."""

from collections.abc import Sequence
from inspect import Parameter
from typing import Any, get_args, get_type_hints

import msgspec

import brrr_core as brrr
from brrr_core.errors import SignatureError

__all__ = ["Arguments"]


class Arguments:
    """Reads the arguments of one task.

    Args:
        name: The task's name, for errors.
        task: The handler. Its `msgspec.Meta` annotations restrict and describe the arguments.
    """

    def __init__(self, name: str, task: brrr.Task) -> None:
        hints = get_type_hints(task.function, include_extras=True)
        parameters = task.signature.parameters.values()
        self._task = name
        self._kinds = {parameter.name: hints.get(parameter.name, Any) for parameter in parameters}
        self._required = [parameter.name for parameter in parameters if parameter.default is Parameter.empty]

    def describe(self) -> str:
        """Describe the arguments in words."""
        return " and ".join(f"{name} ({_in_words(kind)})" for name, kind in self._kinds.items()) or "no arguments"

    def read(self, query: Sequence[tuple[str, str]]) -> dict[str, object]:
        """Return the given arguments by name. An omitted argument stays omitted: adding its default makes another call.

        Raises:
            SignatureError: An argument is unknown, repeated, missing, or of the wrong type.
        """
        arguments: dict[str, object] = {}
        for name, text in query:
            if name not in self._kinds:
                raise self._misfit(f"has no parameter {name!r}")
            if name in arguments:
                raise self._misfit(f"was given {name} twice")
            arguments[name] = self._convert(name, text)
        for name in self._required:
            if name not in arguments:
                raise self._misfit(f"was not given {name}")
        return arguments

    def _convert(self, name: str, text: str) -> object:
        kind = self._kinds[name]
        try:
            converted: object = msgspec.convert(text, kind, strict=False)
        except msgspec.ValidationError as error:
            shown = text if len(text) <= 40 else f"{text[:40]}…"
            raise self._misfit(f"was given {name}={shown!r}, which is not {_in_words(kind)}") from error
        return converted

    def _misfit(self, what: str) -> SignatureError:
        return SignatureError(
            f"the task {self._task!r} {what}", remedy=f"Give it {self.describe()} in the query string."
        )


def _in_words(kind: Any) -> str:
    descriptions = [extra.description for extra in get_args(kind)[1:] if isinstance(extra, msgspec.Meta)]
    return next((text for text in descriptions if text), getattr(kind, "__name__", str(kind)))
