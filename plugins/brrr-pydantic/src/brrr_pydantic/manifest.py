"""The manifest of brrr-pydantic. This module does not import pydantic."""

from typing import Final

from brrr_core.codec import CodecManifest

__all__ = ["MANIFEST"]

MANIFEST: Final = CodecManifest(
    contract=1,
    name="pydantic",
    summary="JSON as the codec json writes it, with pydantic models and unions",
    codec="brrr_pydantic.codec:PydanticCodec",
)
