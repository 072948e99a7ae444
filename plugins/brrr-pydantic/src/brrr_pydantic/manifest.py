"""The manifest of brrr-pydantic. It does not import pydantic."""

from typing import Final

from brrr_core.plugins import CodecManifest

__all__ = ["MANIFEST"]

MANIFEST: Final = CodecManifest(
    contract=1,
    name="pydantic",
    summary="JSON as the codec json writes it, typed by pydantic: models, and unions of them",
    codec="brrr_pydantic.codec:PydanticCodec",
)
