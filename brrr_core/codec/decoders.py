"""The decoding function of each type, made once and kept; and the check that a type can be decoded."""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Final, TypeAlias, cast

import msgspec
from msgspec import Raw
from msgspec.inspect import CustomType, DataclassType, Field, NamedTupleType, StructType, Type, TypedDictType, type_info

from brrr_core.codec.added import AddedError, added_fields
from brrr_core.codec.canonical import USE_PYDANTIC, is_model
from brrr_core.codec.unencodable import type_name
from brrr_core.codec.unknown import unknown_fields
from brrr_core.safe_text import safe_str

__all__ = ["Decode", "Decoders", "UnsupportedTypeError"]

_WITH_CLASS: Final = (CustomType, DataclassType, NamedTupleType, StructType, TypedDictType)

Decode: TypeAlias = Callable[[bytes | Raw], Any]
"""A function that decodes a text of the format, whole or a part of one."""


class UnsupportedTypeError(TypeError):
    """A type cannot be decoded. The message is the reason. Codecs catch this error; callers never see it."""


class UnknownFieldError(ValueError):
    """An argument has a field that its type does not have. Codecs catch this error; callers never see it."""


class Decoders:
    """The decoding functions of one format.

    Args:
        make: Returns the function that decodes to a type.
        builtins: The classes of values that are decoded without a type.
        cache_size: The number of functions to keep; the least recently used is dropped.

    Attributes:
        untyped: Decodes to builtin types.
    """

    def __init__(self, make: Callable[[Any], Decode], builtins: Iterable[type], *, cache_size: int = 1024) -> None:
        self.untyped: Decode = make(Any)
        self._make = make
        self._builtins = tuple(builtins)
        self._kept = lru_cache(maxsize=cache_size)(self._build)

    def to(self, kind: Any) -> Decode:
        """Return the function that decodes to `kind`, any type that msgspec supports. It raises msgspec's errors.

        The function drops fields that `kind` does not have.

        Raises:
            UnsupportedTypeError: `kind` cannot be decoded.
        """
        try:
            hash(kind)
        except TypeError:  # such as Annotated with a list
            return self._build(kind)
        return self._kept(kind)

    def strictly(self, kind: Any) -> Decode:
        """Return a function like that of `to`, but it raises for fields that `kind` does not have. It is not kept.

        Raises:
            UnsupportedTypeError: `kind` cannot be decoded.
        """
        decode = self.to(kind)
        find = unknown_fields(type_info(kind))
        if find is None:
            return decode
        untyped = self.untyped

        def decode_strictly(raw: bytes | Raw) -> Any:
            value = decode(raw)
            path = find(untyped(raw))
            if path is not None:
                raise UnknownFieldError(f"the type has no such field: {path}")
            return value

        return decode_strictly

    def _build(self, kind: Any) -> Decode:
        if kind is Any:
            return self.untyped
        try:
            decode = self._make(kind)
            classes = {node.cls: node for node in _nodes(type_info(kind)) if isinstance(node, _WITH_CLASS)}
        except Exception as error:  # this evaluates the annotations of classes, which can raise anything
            raise UnsupportedTypeError(safe_str(error)) from error
        for cls, node in classes.items():
            if is_model(cls):
                raise UnsupportedTypeError(f"{type_name(cls)} is validated by pydantic; {USE_PYDANTIC}")
            if isinstance(node, CustomType) and not self._builtin_is(cls):
                raise UnsupportedTypeError(f"the codec cannot decode to {type_name(cls)}")
            try:
                added_fields(cls)
            except AddedError as error:
                raise UnsupportedTypeError(f"a field of {type_name(cls)} cannot be `Added`: {error}") from error
        return decode

    def _builtin_is(self, cls: type) -> bool:
        """Whether a decoded builtin can be an instance of `cls`, such as the abstract class Iterable."""
        try:
            return any(issubclass(builtin, cls) for builtin in self._builtins)
        except TypeError:  # a Protocol without @runtime_checkable
            return False


def _nodes(root: Type) -> Iterator[Type]:
    """Yield a type and all types inside it, each once. A type can contain itself."""
    seen: set[int] = set()
    remaining: list[object] = [root]
    while remaining:
        node = remaining.pop()
        if isinstance(node, (list, tuple)):
            remaining.extend(cast("Iterable[object]", node))
        elif isinstance(node, (Type, Field)) and id(node) not in seen:
            seen.add(id(node))
            if isinstance(node, Type):
                yield node
            remaining.extend(getattr(node, name) for name in cast("msgspec.Struct", node).__struct_fields__)
