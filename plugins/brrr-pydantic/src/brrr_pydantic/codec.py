"""The codec `pydantic`: the canonical JSON of the codec `json`, decoded by pydantic's type adapters."""

from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from brrr_core.codec import AddedError, Decode, Decoders, JsonCodec, UnsupportedTypeError, added_fields
from brrr_pydantic.forms import PydanticCallForm, PydanticResultForm, classes_in

__all__ = ["PydanticCodec"]

MAX_SHOWN_ERRORS = 5


class PydanticCodec(JsonCodec):
    """JSON with arguments and results that pydantic validates. Plain data has the bytes and hashes of the codec `json`.

    pydantic dumps a model by its aliases, with its serializers, and without computed fields.
    """

    name: ClassVar[str] = "pydantic"

    def __init__(self) -> None:
        super().__init__(calls=PydanticCallForm, results=PydanticResultForm, decoders=PydanticDecoders)


class PydanticDecoders(Decoders):
    """Decodes to every type that pydantic validates. It finds fields by alias or by name."""

    def strictly(self, kind: Any) -> Decode:
        """See `Decoders.strictly`. A model that allows extra fields receives them."""
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
                    raise ValueError(_summary(error)) from error
                # extra="forbid" overrides each model's own setting. If the model of every extra field allows it, the
                # models' own settings and extra="allow" give the same value.
                value = adapter.validate_json(data, by_alias=True, by_name=True)
                if value != adapter.validate_json(data, extra="allow", by_alias=True, by_name=True):
                    raise ValueError(_summary(error)) from error
                return value

        return decode_strictly

    def _build(self, kind: Any) -> Decode:
        if kind is Any:
            return self.untyped
        adapter = _adapter(kind)

        def decode(raw: Any) -> Any:
            try:
                return adapter.validate_json(bytes(raw), by_alias=True, by_name=True)
            except ValidationError as error:
                raise ValueError(_summary(error)) from error

        return decode


def _adapter(kind: Any) -> TypeAdapter[Any]:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
    except Exception as error:  # this evaluates the annotations of classes, which can raise anything
        raise UnsupportedTypeError(str(error).partition("\n")[0]) from error
    try:
        for each in classes_in(adapter.core_schema):
            added_fields(each)
    except AddedError as error:
        raise UnsupportedTypeError(f"a field cannot be `Added`: {error}") from error
    return adapter


def _summary(error: ValidationError) -> str:
    """Return the path and reason of each error. Leave out the values, which may be secret or long."""
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    shown = [
        f"{'.'.join(map(str, each['loc']))}: {each['msg']}".removeprefix(": ") for each in errors[:MAX_SHOWN_ERRORS]
    ]
    if len(errors) > MAX_SHOWN_ERRORS:
        shown.append(f"and {len(errors) - MAX_SHOWN_ERRORS} more")
    return "; ".join(shown)
