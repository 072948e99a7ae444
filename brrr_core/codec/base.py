"""The base of the codecs built on msgspec: canonical encoding, typed decoding, and their errors."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, ClassVar

from msgspec import Raw, Struct

from brrr_core.codec.canonical import CanonicalForm
from brrr_core.codec.contracts import Codec
from brrr_core.codec.decoders import Decode, Decoders
from brrr_core.codec.signatures import Signatures, TaskSignature, check_result
from brrr_core.codec.unencodable import find_culprit, type_name
from brrr_core.errors import DecodeError, EncodeError
from brrr_core.safe_text import safe_repr, safe_str
from brrr_core.wire import Call

__all__ = ["MsgspecCodec"]


class _KeywordPayload(Struct, forbid_unknown_fields=True):
    """The payload of a call with keyword arguments."""

    args: list[Raw]
    kwargs: dict[str, Raw]


class MsgspecCodec(Codec):
    """A codec for one of msgspec's formats.

    The payload of a call with positional arguments only is their array. With keyword arguments, the payload is the
    object `{"args": […], "kwargs": {…}}`, so the two cannot be confused. The call hash is the SHA-256, in hex, of the
    canonical `[task name, payload]`. `f(1)` and `f(n=1)` are different calls, because the codec does not know the
    signature of f.

    Args:
        encode: The msgspec encoder, made with `order="sorted"`.
        make_decoder: Returns msgspec's decoding function for a type. It decodes the payload around the arguments.
        decoders: The decoding functions for arguments and results.
        calls: The canonical form of arguments.
        results: The canonical form of results.
    """

    name: ClassVar[str]

    def __init__(
        self,
        *,
        encode: Callable[[object], bytes],
        make_decoder: Callable[[Any], Decode],
        decoders: Decoders,
        calls: CanonicalForm,
        results: CanonicalForm,
    ) -> None:
        self._encode = encode
        self._calls = calls
        self._results = results
        self._decoders = decoders
        self._signatures = Signatures(self._decoders)
        self._decode_payload = make_decoder(self._payload_type)

    def encode_call(self, task_name: str, args: Sequence[object], kwargs: Mapping[str, object]) -> Call:
        """See `Codec.encode_call`."""
        arguments = self._arguments(task_name, args, kwargs)
        try:
            payload = self._encode(self._calls(arguments))
            identity = self._identity(self._encode(task_name), payload)
        except Exception as error:  # properties of the arguments can raise anything
            raise self._unencodable_call(task_name, args, kwargs, error) from error
        return Call(task_name, payload, sha256(identity).hexdigest())

    def check_task(self, task: Callable[..., Any], *, returns: Any = Any) -> None:
        """See `Codec.check_task`."""
        self._signatures.of(task)
        check_result(task, returns, self._decoders)

    async def invoke_task(self, call: Call, task: Callable[..., Any]) -> bytes:
        """See `Codec.invoke_task`.

        Raises:
            HandlerError: An annotation of the task cannot be resolved, or is a type that cannot be decoded.
        """
        signature = self._signatures.of(task)
        try:
            payload = self._decode_payload(call.payload)
        except Exception as error:
            raise self._unreadable_payload(call, safe_str(error)) from error
        args, kwargs = self._bind(signature, call, payload)
        result = await task(*args, **kwargs)
        try:
            return self._encode(self._results(result))
        except Exception as error:
            raise self._unencodable_result(call.task_name, result) from error

    def decode_return(self, task_name: str, payload: bytes, *, returns: Any = Any) -> Any:
        """See `Codec.decode_return`."""
        try:
            decode = self._decoders.untyped if returns is Any else self._decoders.to(returns)
            return decode(payload)
        except Exception as error:  # the class of the result can raise anything
            expected = "" if returns is Any else f" as {safe_repr(returns)}"
            raise DecodeError(
                f"the result of task {task_name!r}, {len(payload)} bytes, "
                f"cannot be read by the {self.name} codec{expected}: {safe_str(error)}",
                remedy="Check that the requested type is the type that the handler returns, and that both sides use "
                "the same codec. A stored value never changes.",
            ) from error

    _payload_type: ClassVar[Any] = list[Raw] | _KeywordPayload

    @abstractmethod
    def _identity(self, task_name: bytes, payload: bytes) -> bytes:
        """Return the canonical bytes of `[task name, payload]`, given the canonical bytes of each."""

    def _arguments(self, task_name: str, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
        """Return the object to encode as the payload."""
        del task_name
        return {"args": tuple(args), "kwargs": dict(kwargs)} if kwargs else tuple(args)

    def _bind(self, signature: TaskSignature, call: Call, payload: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the positional and the keyword arguments for the task, from the decoded payload."""
        if type(payload) is _KeywordPayload:
            return signature.bind(call.task_name, payload.args, payload.kwargs)
        return signature.bind(call.task_name, payload, {})

    def _unreadable_payload(self, call: Call, reason: str) -> DecodeError:
        return DecodeError(
            f"the arguments of task {call.task_name!r}, {len(call.payload)} bytes, "
            f"are not a payload of the {self.name} codec: {reason}",
            remedy="Use the same codec in all workers and clients of a store.",
        )

    def _unencodable_call(
        self, task_name: str, args: Sequence[object], kwargs: Mapping[str, object], error: Exception
    ) -> EncodeError:
        named = {f"args[{position}]": value for position, value in enumerate(args)}
        named.update({f"kwargs[{name!r}]": value for name, value in kwargs.items()})
        for name, value in named.items():
            try:
                self._calls.encoded(value)
            except Exception:  # noqa: BLE001 - `find_culprit` reports it
                culprit = find_culprit(value, self._calls.encoded)
                return self._unencodable(
                    f"{name}{culprit.path} of a call of task {task_name!r}", culprit.type_name, culprit.reason
                )
        return self._unencodable(f"a call of task {task_name!r}", type_name(Call), safe_str(error))

    def _unencodable_result(self, task_name: str, result: object) -> EncodeError:
        culprit = find_culprit(result, self._results.encoded)
        at = f" at {culprit.path}" if culprit.path else ""
        return self._unencodable(f"the result of task {task_name!r}{at}", culprit.type_name, culprit.reason)

    def _unencodable(self, what: str, kind: str, reason: str) -> EncodeError:
        return EncodeError(
            f"the {self.name} codec cannot encode {what}, of type {kind}: {reason}",
            remedy="Use builtin types, dataclasses, msgspec Structs, enums, datetimes, UUIDs or Decimals.",
        )
