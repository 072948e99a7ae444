"""The codec contract: how calls and values become bytes and back, and the manifest that names a codec."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from brrr_core.wire import Call

__all__ = ["Codec", "CodecManifest"]


class Codec(ABC):
    """Encodes calls and results. Every process encodes the same call to the same bytes.

    A call hash is printable US-ASCII and covers the task name. It does not depend on the order of dict keys, sets or
    keyword arguments. One codec object serves concurrent calls.
    """

    keyword_only: ClassVar[bool] = False
    """Whether calls carry keyword arguments only. If so, brrr names positional arguments before it encodes them."""

    @abstractmethod
    def encode_call(self, task_name: str, args: Sequence[object], kwargs: Mapping[str, object]) -> Call:
        """Return the call of `task_name` with these arguments.

        Raises:
            EncodeError: An argument cannot be encoded. The error names the task, the argument and its type.
        """

    def check_task(self, task: Callable[..., Any], *, returns: Any = Any) -> None:  # noqa: B027 - optional
        """Refuse a task with an annotation that this codec cannot decode. A new worker calls it once for each handler.

        The default accepts every task. A codec without this method fails at the first call instead.

        Args:
            task: The callable that `invoke_task` will receive.
            returns: The resolved annotation of the task's result. Readers decode the result to this type.

        Raises:
            HandlerError: An annotation cannot be decoded. The error names the handler, the annotation and the reason.
        """

    @abstractmethod
    async def invoke_task(self, call: Call, task: Callable[..., Any]) -> bytes:
        """Decode the call's arguments to the types of the parameters of `task`, await `task`, and encode its result.

        An encoded result never begins with `FAILURE_PREFIX`, which marks failures.

        `task` is an async callable. Its signature (`inspect.signature`, and the type hints of the function that it
        wraps) gives the types of the arguments. An argument without an annotation is decoded to builtin types.

        Raises:
            DecodeError: The payload does not fit the task's parameters.
            EncodeError: The result cannot be encoded.
            BaseException: The task raised it; it passes unchanged.
        """

    @abstractmethod
    def decode_return(self, task_name: str, payload: bytes, *, returns: Any = Any) -> Any:
        """Decode a value, the stored result of a call of `task_name`, to the type `returns`.

        Raises:
            DecodeError: The bytes cannot be decoded to that type.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecManifest:
    """The object that a codec plugin names in its entry point of the group `brrr.codecs`.

    It is read before the codec is imported.

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
