"""The codec contract: bytes of calls and values, and back."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from brrr_core.wire import Call

__all__ = ["Codec"]


class Codec(ABC):
    """Makes bytes of calls and values, the same bytes for the same call in every process.

    A call's hash is printable US-ASCII, covers the task name, and does not depend on the order of dict keys, of sets,
    or of keyword arguments. One codec object serves many calls at once.
    """

    keyword_only: ClassVar[bool] = False
    """Whether calls carry keyword arguments only; what is given by position is then named before it is encoded."""

    @abstractmethod
    def encode_call(self, task_name: str, args: Sequence[object], kwargs: Mapping[str, object]) -> Call:
        """The call of `task_name` with these arguments.

        Raises:
            EncodeError: An argument cannot be encoded; names the task, the argument and its type.
        """

    def check_task(self, task: Callable[..., Any], *, returns: Any = Any) -> None:  # noqa: B027 - optional
        """Refuse a task whose annotations this codec cannot decode to. Called once for each handler of a new worker.

        A codec that does not override it finds out at the first call.

        Args:
            task: What `invoke_task` will be given.
            returns: The resolved annotation of the task's result; readers decode the result to it.

        Raises:
            HandlerError: Names the handler, the annotation and the reason.
        """

    @abstractmethod
    async def invoke_task(self, call: Call, task: Callable[..., Any]) -> bytes:
        """Decode the call's arguments as the parameters of `task` ask for, await `task` with them, encode its result.

        `task` is an async callable; its signature (`inspect.signature`, and the type hints of what it wraps) says what
        the arguments are decoded to, and builtin types where it says nothing.

        Raises:
            DecodeError: The payload does not fit the task's parameters.
            EncodeError: The result cannot be encoded.
            BaseException: Whatever the task raised, unchanged.
        """

    @abstractmethod
    def decode_return(self, task_name: str, payload: bytes, *, returns: Any = Any) -> Any:
        """The result of a call of `task_name`, from its value's bytes, as the type `returns`.

        Raises:
            DecodeError: The value's bytes are not such a result.
        """
