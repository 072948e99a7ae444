"""The codec contract, and the codecs of the core: json, json-object and msgpack."""

from brrr_core.codec.contracts import Codec

__all__ = ["Codec"]
