"""The canonical form of pydantic's models, and of types that only pydantic can write."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, cast
from uuid import UUID

from pydantic import PydanticUserError, SecretBytes, SecretStr, TypeAdapter

from brrr_core.codec.canonical import NotCanonicalError
from brrr_core.codec.json import CallForm, ResultForm

__all__ = ["PydanticCallForm", "PydanticResultForm"]

NATIVE = (date, time, timedelta, Decimal, UUID)
"""The encoder and pydantic agree on the text of these."""


class PydanticResultForm(ResultForm):
    """Results: models as pydantic dumps them, and the canonical form of that."""

    def __init__(self, encode: Callable[[object], bytes], *, in_model: bool = False) -> None:
        super().__init__(encode)
        self._in_model = in_model
        self._inside = self if in_model else type(self)(encode, in_model=True)

    def model(self, kind: type[Any]) -> Callable[[Any], object]:
        """See `CanonicalForm.model`."""
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        if fault := _fault(adapter.core_schema):
            return partial(_refuse, fault)
        return partial(self._dumped, adapter)

    def other(self, kind: type[Any]) -> Callable[[Any], object]:
        """See `CanonicalForm.other`."""
        if issubclass(kind, NATIVE):
            return super().other(kind)
        if issubclass(kind, (bytes, bytearray)):
            return _text if self._in_model else partial(_refuse, BYTES)
        if issubclass(kind, (SecretStr, SecretBytes)):
            return partial(_refuse, "pydantic writes asterisks for it; pass the secret's name, or where it is kept")
        if issubclass(kind, Iterator):
            return partial(_refuse, "reading an iterator uses it up; make a list of it")
        if issubclass(kind, deque):
            return lambda value: self.sequence(list(value))
        try:
            return partial(self._leaf, TypeAdapter(kind))
        except PydanticUserError:  # not a type of pydantic's: the encoder refuses it, and says so
            return super().other(kind)

    def _dumped(self, adapter: TypeAdapter[Any], value: object) -> object:
        return self._inside(adapter.dump_python(value, by_alias=True, round_trip=True, warnings="error"))

    def _leaf(self, adapter: TypeAdapter[Any], value: object) -> object:
        return self._inside(adapter.dump_python(value, mode="json", warnings="error"))


class PydanticCallForm(CallForm, PydanticResultForm):
    """Arguments: the same, with numbers as JavaScript writes them."""


BYTES = (
    "pydantic reads bytes as text or as base64, which depends on the annotation; make them a field of a model, "
    "or send text"
)


def _refuse(reason: str, value: object) -> object:
    del value
    raise NotCanonicalError(reason)


def _text(value: bytes | bytearray) -> object:
    """The bytes of a model's field as pydantic writes them into JSON."""
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise NotCanonicalError("bytes that are not UTF-8; annotate the field with pydantic.Base64Bytes") from error


def _fault(schema: Mapping[str, Any]) -> str | None:
    """Why a model's JSON would be read as something else, if so."""
    for node in _nodes(schema):
        written = node.get("serialization_alias")
        if isinstance(written, str) and not _accepts(node.get("validation_alias"), written):
            return f"a field is written as {written!r} and is not read so; give it one alias"
        config = node.get("config")
        if isinstance(config, dict):
            settings = cast("dict[str, object]", config)
            if settings.get("val_json_bytes", "utf8") != "utf8":
                return "its configuration sets val_json_bytes; annotate its fields with pydantic.Base64Bytes instead"
    return None


def _accepts(alias: object, written: str) -> bool:
    if isinstance(alias, list):  # paths: one, or a choice of several
        choices = cast("list[object]", alias)
        return choices == [written] or [written] in choices
    return alias == written


def _nodes(schema: object) -> Iterator[Mapping[str, Any]]:
    """All dicts within a core schema, which refers to itself by names only."""
    waiting: list[object] = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            members = cast("dict[str, Any]", node)
            yield members
            waiting.extend(members.values())
        elif isinstance(node, (list, tuple)):
            waiting.extend(cast("Iterable[object]", node))
