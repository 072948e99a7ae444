"""Finds fields of decoded objects that their type does not have; msgspec drops such fields."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from msgspec.inspect import (
    CollectionType,
    DataclassType,
    DictType,
    Metadata,
    StructType,
    TupleType,
    Type,
    TypedDictType,
    UnionType,
)

from brrr_core.codec.unencodable import shown

__all__ = ["Find", "unknown_fields"]

Find: TypeAlias = Callable[[Any], str | None]
"""Takes a value decoded without a type. Returns the path of its first unknown field, like `[0].x['name']`, or None."""


def unknown_fields(root: Type) -> Find | None:
    """Return a function that finds unknown fields of values of a type, or None if no value can have any."""
    return _Finders().of(root)


class _Finders:
    """Makes one function for each node of a type. A node can contain itself."""

    def __init__(self) -> None:
        self._made: dict[int, Find | None] = {}
        self._in_progress: set[int] = set()

    def of(self, node: Type) -> Find | None:
        key = id(node)
        if key in self._made:
            return self._made[key]
        if key in self._in_progress:
            return lambda value: find(value) if (find := self._made[key]) else None
        self._in_progress.add(key)
        self._made[key] = made = self._make(node)
        return made

    def _make(self, node: Type) -> Find | None:
        match node:
            case Metadata():
                return self.of(node.type)
            case CollectionType():
                return _elements(self.of(node.item_type))
            case DictType():
                return _members(self.of(node.value_type))
            case TupleType():
                return _positions([self.of(each) for each in node.item_types])
            case StructType(array_like=True):
                return self._array(node)
            case StructType() | DataclassType() | TypedDictType():
                return self._object(node)
            case UnionType():
                return self._union(node)
            case _:  # a scalar, or a named tuple, whose length msgspec checks
                return _positions([self.of(field.type) for field in getattr(node, "fields", ())])

    def _object(self, node: StructType | DataclassType | TypedDictType) -> Find:
        names = {field.encode_name for field in node.fields}
        if isinstance(node, StructType) and node.tag_field is not None:
            names.add(node.tag_field)
        made = {field.encode_name: self.of(field.type) for field in node.fields}
        inner = {name: find_in for name, find_in in made.items() if find_in is not None}

        def find(value: Mapping[str, object]) -> str | None:
            if not names.issuperset(value):
                return f"[{shown(next(name for name in value if name not in names))}]"
            for name, find_in in inner.items():
                if name in value and (path := find_in(value[name])) is not None:
                    return f".{name}{path}"
            return None

        return _only(dict, find)

    def _array(self, node: StructType) -> Find:
        tag = [] if node.tag_field is None else [None]
        inner = [*tag, *(self.of(field.type) for field in node.fields)]
        find_in = _positions(inner)

        def find(value: Sequence[object]) -> str | None:
            if len(value) > len(inner):
                return f"[{len(inner)}]"
            return find_in(value) if find_in is not None else None

        return _only(list, find)

    def _union(self, node: UnionType) -> Find | None:
        """A union has at most one type of each shape. Tags distinguish several structs."""
        tagged: dict[object, Find] = {}
        plain: list[Find] = []
        tag_field: str | None = None
        for each in node.types:
            find = self.of(each)
            if find is None:
                continue
            if isinstance(each, StructType) and each.tag_field is not None:
                tag_field = each.tag_field
                tagged[each.tag] = find
            else:
                plain.append(find)

        def find_any(value: object) -> str | None:
            tag: object = None
            if tagged and isinstance(value, dict):
                tag = cast("dict[str, object]", value).get(cast("str", tag_field))
            elif tagged and isinstance(value, list) and value:
                tag = cast("list[object]", value)[0]
            if isinstance(tag, (str, int)) and tag in tagged:
                return tagged[tag](value)
            for find in plain:
                if (path := find(value)) is not None:
                    return path
            return None

        return find_any if tagged or plain else None


def _only(kind: type, find: Find) -> Find:
    """Apply `find` to values of `kind` only. A member of a union also receives values of the other members."""
    return lambda value: find(value) if isinstance(value, kind) else None


def _elements(find: Find | None) -> Find | None:
    if find is None:
        return None

    def find_element(value: Sequence[object]) -> str | None:
        for index, element in enumerate(value):
            if (path := find(element)) is not None:
                return f"[{index}]{path}"
        return None

    return _only(list, find_element)


def _members(find: Find | None) -> Find | None:
    if find is None:
        return None

    def find_member(value: Mapping[object, object]) -> str | None:
        for key, member in value.items():
            if (path := find(member)) is not None:
                return f"[{shown(key)}]{path}"
        return None

    return _only(dict, find_member)


def _positions(finds: Sequence[Find | None]) -> Find | None:
    inner = [(index, find) for index, find in enumerate(finds) if find is not None]
    if not inner:
        return None

    def find_position(value: Sequence[object]) -> str | None:
        for index, find in inner:
            if index < len(value) and (path := find(value[index])) is not None:
                return f"[{index}]{path}"
        return None

    return _only(list, find_position)
