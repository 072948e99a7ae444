"""The canonical form of pydantic models, and of types that only pydantic can encode."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, cast
from uuid import UUID

from pydantic import PydanticUserError, SecretBytes, SecretStr, TypeAdapter

from brrr_core.codec import AddedError, CallForm, NotCanonicalError, ResultForm, added_fields

__all__ = ["PydanticCallForm", "PydanticResultForm", "classes_in"]

NATIVE_TYPES = (date, time, timedelta, Decimal, UUID)
"""Types that msgspec and pydantic write as the same text."""


class PydanticResultForm(ResultForm):
    """Results: the canonical form of the models as pydantic dumps them."""

    def __init__(self, encode: Callable[[object], bytes], *, in_model: bool = False) -> None:
        super().__init__(encode)
        self._in_model = in_model
        self._inside = self if in_model else type(self)(encode, in_model=True)

    def model_rule(self, kind: type[Any]) -> Callable[[Any], object]:
        """See `CanonicalForm.model_rule`."""
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        if fault := _mismatch(adapter.core_schema):
            return partial(_refuse, fault)
        try:
            added = {each: added_fields(each) for each in classes_in(adapter.core_schema)}
        except AddedError as error:
            return partial(_refuse, f"a field of its class cannot be `Added`: {error}")
        if any(added.values()):
            return partial(self._dump_without, added, adapter)
        return partial(self._dump, adapter)

    def other_rule(self, kind: type[Any]) -> Callable[[Any], object]:
        """See `CanonicalForm.other_rule`."""
        if issubclass(kind, NATIVE_TYPES):
            return super().other_rule(kind)
        if issubclass(kind, (bytes, bytearray)):
            return _text if self._in_model else partial(_refuse, BYTES_REFUSAL)
        if issubclass(kind, (SecretStr, SecretBytes)):
            return partial(_refuse, "pydantic writes asterisks instead of it; pass the name or location of the secret")
        if issubclass(kind, Iterator):
            return partial(_refuse, "encoding would consume the iterator; convert it to a list")
        if issubclass(kind, deque):
            return lambda value: self.sequence(list(value))
        try:
            return partial(self._dump_leaf, TypeAdapter(kind))
        except PydanticUserError:  # pydantic does not know the type: let the encoder refuse it
            return super().other_rule(kind)

    def _dump(self, adapter: TypeAdapter[Any], value: object) -> object:
        return self._inside(adapter.dump_python(value, by_alias=True, round_trip=True, warnings="error"))

    def _dump_without(
        self, added: Mapping[type, Mapping[str, object]], adapter: TypeAdapter[Any], value: object
    ) -> object:
        left_out = _left_out(added, value)
        dumped = adapter.dump_python(value, by_alias=True, round_trip=True, warnings="error", exclude=left_out or None)
        return self._inside(dumped)

    def _dump_leaf(self, adapter: TypeAdapter[Any], value: object) -> object:
        return self._inside(adapter.dump_python(value, mode="json", warnings="error"))


class PydanticCallForm(CallForm, PydanticResultForm):
    """Arguments: the same form, with numbers as JavaScript writes them."""


BYTES_REFUSAL = (
    "pydantic reads bytes as text or as base64, depending on the annotation; put them into a field of a model, "
    "or send text"
)


def _refuse(reason: str, value: object) -> object:
    del value
    raise NotCanonicalError(reason)


def _text(value: bytes | bytearray) -> object:
    """Return the bytes of a model's field as the text that pydantic writes in JSON."""
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise NotCanonicalError("bytes that are not UTF-8; annotate the field with pydantic.Base64Bytes") from error


def _left_out(added: Mapping[type, Mapping[str, object]], value: object) -> dict[Any, Any]:
    """Return the `Added` fields with their defaults inside a value, in the form of pydantic's `exclude`."""
    kind = type(value)
    if getattr(kind, "__pydantic_root_model__", False):
        return _left_out(added, vars(value)["root"])
    found: dict[Any, Any] = {}
    members: Iterable[tuple[Any, Any]] = ()
    if kind in added:
        found = {name: True for name, default in added[kind].items() if _is_default(getattr(value, name), default)}
        members = [(name, getattr(value, name)) for name in _field_names(kind) if name not in found]
    elif isinstance(value, Mapping):
        members = cast("Mapping[object, object]", value).items()
    elif isinstance(value, (list, tuple, deque)):
        members = enumerate(cast("Iterable[object]", value))
    for key, member in members:
        if inside := _left_out(added, member):
            found[key] = inside
    return found


def _is_default(value: object, default: object) -> bool:
    return type(value) is type(default) and value == default


def _field_names(kind: Any) -> Iterable[str]:
    if hasattr(kind, "__pydantic_fields__"):
        return list(kind.__pydantic_fields__)
    return list(kind.__dataclass_fields__)


def classes_in(schema: object) -> Iterator[type]:
    """Yield the models and dataclasses in a core schema."""
    return (node["cls"] for node in _nodes(schema) if node.get("type") in ("model", "dataclass"))


def _mismatch(schema: Mapping[str, Any]) -> str | None:
    """Return why a model would be read back as another value; None if it would not."""
    for node in _nodes(schema):
        written = node.get("serialization_alias")
        if isinstance(written, str) and not _accepts(node.get("validation_alias"), written):
            return f"a field is written as {written!r} but not read under that name; give it one alias"
        config = node.get("config")
        if isinstance(config, dict):
            settings = cast("dict[str, object]", config)
            if settings.get("val_json_bytes", "utf8") != "utf8":
                return "its model_config sets val_json_bytes; annotate its fields with pydantic.Base64Bytes instead"
    return None


def _accepts(alias: object, written: str) -> bool:
    if isinstance(alias, list):  # one path, or a list of alternative paths
        choices = cast("list[object]", alias)
        return choices == [written] or [written] in choices
    return alias == written


def _nodes(schema: object) -> Iterator[Mapping[str, Any]]:
    """Yield all dicts in a core schema. References in it are names, so there are no cycles."""
    remaining: list[object] = [schema]
    while remaining:
        node = remaining.pop()
        if isinstance(node, dict):
            members = cast("dict[str, Any]", node)
            yield members
            remaining.extend(members.values())
        elif isinstance(node, (list, tuple)):
            remaining.extend(cast("Iterable[object]", node))
