"""The codec contract, the manifest of a codec, and the parts of the codec `json` for codecs of other types.

A codec for the types of another library derives from `JsonCodec`, with its own canonical forms and decoders. The parts
of `json` are imported when they are first used, because they need msgspec.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from brrr_core.codec.added import AddedError, added_fields
from brrr_core.codec.contracts import Codec, CodecManifest
from brrr_core.wire import FAILURE_PREFIX, Call

if TYPE_CHECKING:
    from brrr_core.codec.canonical import NotCanonicalError
    from brrr_core.codec.decoders import Decode, Decoders, UnsupportedTypeError
    from brrr_core.codec.json import CallForm, JsonCodec, ResultForm

__all__ = [
    "FAILURE_PREFIX",
    "AddedError",
    "Call",
    "CallForm",
    "Codec",
    "CodecManifest",
    "Decode",
    "Decoders",
    "JsonCodec",
    "NotCanonicalError",
    "ResultForm",
    "UnsupportedTypeError",
    "added_fields",
]

_HOME_OF: Final = {
    "CallForm": "json",
    "Decode": "decoders",
    "Decoders": "decoders",
    "JsonCodec": "json",
    "NotCanonicalError": "canonical",
    "ResultForm": "json",
    "UnsupportedTypeError": "decoders",
}
"""The modules of the names that are imported on first use."""


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value
