"""Decoding functions by type, made once and kept; and which types can be decoded to at all."""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, TypeAlias, cast

import msgspec
from msgspec import Raw
from msgspec.inspect import CustomType, DataclassType, Field, Type, type_info

from brrr_core.codec.canonical import USE_PYDANTIC, is_model
from brrr_core.codec.unencodable import type_name
from brrr_core.codec.unknown import unknown_fields
from brrr_core.safe_text import safe_str

__all__ = ["Decode", "Decoders", "UnsupportedTypeError"]

Decode: TypeAlias = Callable[[bytes | Raw], Any]


class UnsupportedTypeError(TypeError):
    """A type that nothing can be decoded to; its message is the reason. Never leaves a codec."""


class UnknownFieldError(ValueError):
    """A field of an argument that its type does not have. Never leaves this package."""


class Decoders:
    """The decoding functions of one format.

    Args:
        make: Makes the function that decodes to a type.
        builtins: The classes of what is decoded where no type is asked for.
        most: How many functions are kept, those used last.

    Attributes:
        untyped: Decodes to builtin types.
    """

    def __init__(self, make: Callable[[Any], Decode], builtins: Iterable[type], *, most: int = 1024) -> None:
        self.untyped: Decode = make(Any)
        self._make = make
        self._builtins = tuple(builtins)
        self._kept = lru_cache(maxsize=most)(self._made)

    def to(self, kind: Any) -> Decode:
        """The function that decodes to `kind`, any type that msgspec supports; it raises whatever msgspec raises.

        It drops fields that `kind` does not have.

        Raises:
            UnsupportedTypeError: Nothing can be decoded to `kind`.
        """
        try:
            hash(kind)
        except TypeError:  # such as Annotated with a list
            return self._made(kind)
        return self._kept(kind)

    def strictly(self, kind: Any) -> Decode:
        """As `to`, but the function raises for fields that `kind` does not have. The function is not kept.

        Raises:
            UnsupportedTypeError: Nothing can be decoded to `kind`.
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

    def _made(self, kind: Any) -> Decode:
        if kind is Any:
            return self.untyped
        try:
            decode = self._make(kind)
            classes = {
                node.cls: node for node in _nodes(type_info(kind)) if isinstance(node, CustomType | DataclassType)
            }
        except Exception as error:  # a class's own annotations are evaluated here, and can raise anything
            raise UnsupportedTypeError(safe_str(error)) from error
        for cls, node in classes.items():
            if is_model(cls):
                raise UnsupportedTypeError(f"{type_name(cls)} is validated by pydantic; {USE_PYDANTIC}")
            if isinstance(node, CustomType) and not self._may_be(cls):
                raise UnsupportedTypeError(f"nothing is decoded to a {type_name(cls)}")
        return decode

    def _may_be(self, cls: type) -> bool:
        """Whether what is decoded can be an instance of an abstract class, such as Iterable."""
        try:
            return any(issubclass(builtin, cls) for builtin in self._builtins)
        except TypeError:  # a protocol that is not for run time
            return False


def _nodes(root: Type) -> Iterator[Type]:
    """A type and all that it is made of, each once; types can contain themselves."""
    seen: set[int] = set()
    waiting: list[object] = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (list, tuple)):
            waiting.extend(cast("Iterable[object]", node))
        elif isinstance(node, (Type, Field)) and id(node) not in seen:
            seen.add(id(node))
            if isinstance(node, Type):
                yield node
            waiting.extend(getattr(node, name) for name in cast("msgspec.Struct", node).__struct_fields__)
