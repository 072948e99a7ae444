"""What a codec says of itself, before anything of it is imported: its manifest."""

from dataclasses import dataclass

__all__ = ["CodecManifest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecManifest:
    """What a codec plugin ships under its entry point of the group `brrr.codecs`.

    Attributes:
        contract: The contract version that the plugin was written for.
        name: The codec's name, the same as the entry point's.
        summary: One line for listings.
        codec: Where the codec is, as `module:callable`; called without arguments, it gives a `Codec`.
    """

    contract: int
    name: str
    summary: str
    codec: str
