"""The codec `pydantic`: the canonical JSON of the codec `json`, decoded by pydantic."""

from typing import ClassVar

from brrr_core.codec import JsonCodec
from brrr_pydantic.decoding import PydanticDecoders
from brrr_pydantic.forms import PydanticCallForm, PydanticResultForm

__all__ = ["PydanticCodec"]


class PydanticCodec(JsonCodec):
    """JSON with arguments and results that pydantic validates. Plain data has the bytes and hashes of the codec `json`.

    pydantic dumps a model by its aliases, with its serializers, and without computed fields.
    """

    name: ClassVar[str] = "pydantic"

    def __init__(self) -> None:
        super().__init__(calls=PydanticCallForm, results=PydanticResultForm, decoders=PydanticDecoders)
