"""The canonical form: replaces values that msgspec would write wrongly, or in more than one way.

msgspec's encoders sort the keys of dicts and the fields of objects. But they

- sort sets with Python's `<`, which fails for mixed elements and gives sets of sets no fixed order,
- refuse dict keys that are not text,
- omit a struct's default if it is the same object, not if it is equal,
- write NaN in JSON as null.

`CanonicalForm` replaces such values by ones that can be written in only one way. Most values need no replacement, and
pass unchanged.
"""

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, time
from enum import Enum
from functools import partial
from typing import Any, Final, cast

from msgspec import NODEFAULT, UNSET, Raw, Struct
from msgspec.structs import force_setattr

from brrr_core.codec.added import AddedError, added_fields

__all__ = ["PLAIN", "TEXT", "USE_PYDANTIC", "CanonicalForm", "NotCanonicalError", "field_names", "is_model"]

PLAIN: Final[frozenset[type]] = frozenset({str, int, bool, type(None)})
"""The exact types that every encoder here writes in only one way."""

TEXT: Final[frozenset[type]] = frozenset({str})


USE_PYDANTIC: Final = "install brrr-pydantic, and use its codec `pydantic`"


class NotCanonicalError(ValueError):
    """A value has no canonical form. The message is the reason. Codecs catch this error; callers never see it."""


class CanonicalForm(ABC):
    """Turns a value into one that `encode` writes in its canonical form.

    Args:
        encode: The encoder, which must write the keys of dicts and the fields of objects in sorted order.
    """

    def __init__(self, encode: Callable[[object], bytes]) -> None:
        self._encode = encode
        self._rules: dict[type, Callable[[Any], object]] = dict.fromkeys(PLAIN, _unchanged)
        self._structs: dict[type, tuple[tuple[str, object], ...]] = {}

    def __call__(self, value: object) -> object:
        """Return the value to encode in place of `value`: often `value` itself, which never changes.

        Raises:
            NotCanonicalError: The value, or a value inside it, has no canonical form.
        """
        rule = self._rules.get(type(value)) or self._rule(type(value))
        return rule(value)

    @abstractmethod
    def number(self, value: float) -> object:
        """Return the replacement for a float.

        Raises:
            NotCanonicalError: The format cannot write this number.
        """

    @abstractmethod
    def mapping(self, value: Mapping[object, object]) -> object:
        """Return the replacement for a dict.

        Raises:
            NotCanonicalError: A key cannot be written, or two keys have the same written form.
        """

    def sequence(self, value: Collection[object]) -> Collection[object]:
        """Return the canonical forms of the elements of a list or a tuple, in their order."""
        if PLAIN.issuperset(map(type, value)):
            return value
        return [self(element) for element in value]

    def values(self, value: Mapping[str, object]) -> Mapping[str, object]:
        """Return the dict with the canonical forms of its values."""
        if PLAIN.issuperset(map(type, value.values())):
            return value
        return {key: self(member) for key, member in value.items()}

    def encoded(self, value: object) -> bytes:
        """Return the canonical bytes of `value`."""
        return self._encode(self(value))

    def _rule(self, kind: type[Any]) -> Callable[[Any], object]:
        """Choose the rule for the values of a class, and keep it."""
        rule = self._plain_rule(kind)
        if added := self._encoded_defaults(kind):
            rule = partial(self._without, added, rule)
        self._rules[kind] = rule
        return rule

    def _plain_rule(self, kind: type[Any]) -> Callable[[Any], object]:
        """Return the rule for the values of a class, of whose fields none is `Added`."""
        rule: Callable[[Any], object]
        if is_model(kind):
            rule = self.model_rule(kind)
        elif issubclass(kind, Enum):
            rule = self._member
        elif kind is float:
            rule = self.number
        elif issubclass(kind, (list, tuple)):
            rule = self.sequence
        elif issubclass(kind, (set, frozenset)):
            rule = self._unordered
        elif issubclass(kind, dict):
            rule = self.mapping
        elif issubclass(kind, Struct):
            self._structs[kind] = _struct_fields(kind)
            rule = self.struct
        elif issubclass(kind, datetime):
            rule = _whole_minutes
        elif issubclass(kind, time):
            rule = _refuse_odd_offset
        elif issubclass(kind, Raw):
            rule = _refuse_raw
        elif names := field_names(kind):
            # For attrs classes, msgspec omits private fields and writes attributes that are not fields.
            rule = partial(self._fields, names, not dataclasses.is_dataclass(kind))
        else:
            rule = self.other_rule(kind)
        return rule

    def _encoded_defaults(self, kind: type[Any]) -> Mapping[str, bytes]:
        """Return the canonical bytes of the defaults of the fields that are `Added`. Models have their own rule."""
        if is_model(kind) or not (field_names(kind) or hasattr(kind, "_fields")):
            return {}
        try:
            defaults, again = ({n: self.encoded(d) for n, d in added_fields(kind).items()} for _ in range(2))
        except AddedError as error:
            raise NotCanonicalError(f"a field of its class cannot be `Added`: {error}") from error
        except Exception as error:
            raise NotCanonicalError(
                f"the default of an `Added` field of its class cannot be encoded: {error}"
            ) from error
        if defaults != again:
            raise NotCanonicalError("the default of an `Added` field of its class changes each time")
        return defaults

    def _without(self, added: Mapping[str, bytes], rule: Callable[[Any], object], value: object) -> object:
        """Apply the rule to a copy without the fields that have their defaults. msgspec leaves out UNSET."""
        left_out = [name for name, default in added.items() if self.encoded(getattr(value, name)) == default]
        if left_out:
            value = copy.copy(value)
            for name in left_out:
                _set_field(value, name, UNSET)
        return rule(value)

    def model_rule(self, kind: type[Any]) -> Callable[[Any], object]:
        """Return the rule for a class that pydantic validates: it refuses such values."""
        del kind
        return _refuse_model

    def other_rule(self, kind: type[Any]) -> Callable[[Any], object]:
        """Return the rule for any other class: its values pass unchanged, and msgspec accepts or refuses them."""
        del kind
        return _unchanged

    def _member(self, value: Enum) -> object:
        return self(value.value)

    def _unordered(self, value: AbstractSet[object]) -> object:
        return [Raw(element) for element in sorted({self.encoded(element) for element in value})]

    def struct(self, value: Struct) -> object:
        """Return a struct with the canonical forms of its fields."""
        changed: list[tuple[str, object]] = []
        for name, default in self._structs[type(value)]:
            old = getattr(value, name, UNSET)
            new = self(old)
            if default is not NODEFAULT and type(old) is type(default) and old == default:
                new = default
            if new is not old:
                changed.append((name, new))
        if not changed:
            return value
        twin = copy.copy(value)  # a copy keeps the class's tags, renamed fields and array form
        for name, new in changed:
            force_setattr(twin, name, new)
        return twin

    def _fields(self, names: Iterable[str], changed: bool, value: object) -> object:
        members: dict[str, object] = {}
        for name in names:
            old = getattr(value, name, UNSET)
            if old is not UNSET:
                members[name] = new = self(old)
                changed = changed or new is not old
        return members if changed else value


def is_model(kind: type[Any]) -> bool:
    """Whether pydantic validates the values of a class, as it does for its models and dataclasses."""
    return hasattr(kind, "__pydantic_validator__")


def field_names(kind: type[Any]) -> tuple[str, ...]:
    """Return the field names of a struct, a dataclass or an attrs class; empty for other classes."""
    if issubclass(kind, Struct):
        return kind.__struct_fields__
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return tuple(field.name for field in getattr(kind, "__attrs_attrs__", ()))


def _set_field(value: object, name: str, to: object) -> None:
    """Set a field of an object that may be frozen."""
    if isinstance(value, Struct):
        force_setattr(value, name, to)
    else:
        object.__setattr__(value, name, to)


def _unchanged(value: object) -> object:
    return value


def _refuse_model(value: object) -> object:
    raise NotCanonicalError(f"its class is validated by pydantic; {USE_PYDANTIC}")


def _refuse_raw(value: Raw) -> object:
    raise NotCanonicalError("it holds encoded bytes, which may not be in canonical form")


def _has_odd_offset(value: datetime | time) -> bool:
    """Whether the UTC offset has seconds, as historic local times have. msgspec would round it."""
    offset = value.utcoffset()
    return offset is not None and bool(offset.seconds % 60 or offset.microseconds)


def _whole_minutes(value: datetime) -> object:
    """Return the same instant with an offset that RFC 3339 can write: UTC if the original offset has seconds."""
    return value.astimezone(UTC) if value.tzinfo is not None and _has_odd_offset(value) else value


def _refuse_odd_offset(value: time) -> object:
    if value.tzinfo is not None and _has_odd_offset(value):
        raise NotCanonicalError(
            f"its UTC offset, {value.utcoffset()}, has seconds, which RFC 3339 cannot write; use an offset of "
            "whole minutes, or send a datetime"
        )
    return value


def _struct_fields(kind: type[Struct]) -> tuple[tuple[str, object], ...]:
    """Return each field name with its default. msgspec omits a field only if its value is that very object."""
    names = kind.__struct_fields__
    if not kind.__struct_config__.omit_defaults:
        return tuple((name, NODEFAULT) for name in names)
    defaults = cast("tuple[object, ...]", kind.__struct_defaults__)
    padding = (NODEFAULT,) * (len(names) - len(defaults))
    return tuple(zip(names, padding + defaults, strict=True))
