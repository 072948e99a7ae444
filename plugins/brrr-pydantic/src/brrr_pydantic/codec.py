"""The codec `pydantic`: the canonical JSON of the codec `json`, decoded by pydantic's type adapters."""

from typing import ClassVar

from brrr_core.codec.json import JsonCodec
from brrr_pydantic.decoding import PydanticDecoders
from brrr_pydantic.forms import PydanticCallForm, PydanticResultForm

__all__ = ["PydanticCodec"]


class PydanticCodec(JsonCodec):
    """Arguments and results are validated by pydantic. Plain data has the bytes and hashes of the codec `json`.

    A model is written as pydantic dumps it: by its aliases, through its serializers, without computed fields.
    """

    name: ClassVar[str] = "pydantic"

    def __init__(self) -> None:
        super().__init__(calls=PydanticCallForm, results=PydanticResultForm, decoders=PydanticDecoders)
