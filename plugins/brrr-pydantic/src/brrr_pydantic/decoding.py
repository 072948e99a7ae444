"""Decoding functions made of pydantic's type adapters."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from brrr_core.codec.decoders import Decode, Decoders, UnsupportedTypeError

__all__ = ["PydanticDecoders"]

MOST_ERRORS = 5


class PydanticDecoders(Decoders):
    """Decodes to every type that pydantic validates. Fields go by their aliases or their names."""

    def strictly(self, kind: Any) -> Decode:
        """See `Decoders.strictly`. A model that allows extra fields gets them."""
        decode = self.to(kind)
        if kind is Any:
            return decode
        adapter = _adapter(kind)

        def decode_strictly(raw: Any) -> Any:
            data = bytes(raw)
            try:
                return adapter.validate_json(data, extra="forbid", by_alias=True, by_name=True)
            except ValidationError as error:
                if any(each["type"] != "extra_forbidden" for each in error.errors(include_url=False)):
                    raise ValueError(_short(error)) from error
                # `extra` outweighs what models say of themselves. Those that allow extra fields keep them either way.
                value = adapter.validate_json(data, by_alias=True, by_name=True)
                if value != adapter.validate_json(data, extra="allow", by_alias=True, by_name=True):
                    raise ValueError(_short(error)) from error
                return value

        return decode_strictly

    def _made(self, kind: Any) -> Decode:
        if kind is Any:
            return self.untyped
        adapter = _adapter(kind)

        def decode(raw: Any) -> Any:
            try:
                return adapter.validate_json(bytes(raw), by_alias=True, by_name=True)
            except ValidationError as error:
                raise ValueError(_short(error)) from error

        return decode


def _adapter(kind: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(kind)
    except Exception as error:  # a class's own annotations are evaluated here, and can raise anything
        raise UnsupportedTypeError(str(error).partition("\n")[0]) from error


def _short(error: ValidationError) -> str:
    """The places and the reasons, without the values, which may be secret or long."""
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    told = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}".removeprefix(": ") for each in errors[:MOST_ERRORS]]
    if len(errors) > MOST_ERRORS:
        told.append(f"and {len(errors) - MOST_ERRORS} more")
    return "; ".join(told)
