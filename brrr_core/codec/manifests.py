"""The manifest of a codec: its description, which is read before the codec is imported."""

from dataclasses import dataclass

__all__ = ["CodecManifest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecManifest:
    """The object that a codec plugin names in its entry point of the group `brrr.codecs`.

    Attributes:
        contract: The contract version for which the plugin was written.
        name: The codec's name, the same as the entry point's.
        summary: One line for listings.
        codec: The location of the codec, as `module:callable`. Called without arguments, it returns a `Codec`.
    """

    contract: int
    name: str
    summary: str
    codec: str
