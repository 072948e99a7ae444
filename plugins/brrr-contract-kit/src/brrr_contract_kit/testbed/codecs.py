"""The codec under test, and the context that its rules use."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from brrr_core import load_codec
from brrr_core.codec import Call, Codec
from brrr_core.errors import CodecError, ContractError

__all__ = ["CodecContext", "CodecTarget"]


@dataclass(frozen=True, slots=True)
class CodecTarget:
    """A codec under test.

    Attributes:
        name: Its name in the report.
        codec: The codec.
        location: The name or `module:class` by which other processes find it; None if they cannot.
    """

    name: str
    codec: Codec
    location: str | None

    @classmethod
    def of(cls, codec: object) -> "CodecTarget":
        """Return the target of a codec's name or of a codec object.

        Raises:
            ContractError: The argument is neither a name nor a codec.
            PluginError: The plugin of that name cannot be used.
        """
        if not isinstance(codec, str | Codec):
            raise ContractError(
                f"the codec to test is a {type(codec).__name__}",
                remedy="Pass a name, like 'json', or a Codec object.",
            )
        try:
            loaded = load_codec(codec)
        except CodecError as error:
            raise ContractError(error.what, remedy=error.remedy) from error
        if isinstance(codec, str):
            return cls(codec, loaded, codec)
        name = f"{type(codec).__module__}:{type(codec).__qualname__}"
        return cls(name, loaded, None if "<locals>" in name or name.startswith("__main__:") else name)


class CodecContext:
    """The context of one run of a rule about codecs."""

    def __init__(self, target: CodecTarget, seed: str) -> None:
        self.target = target
        self.codec = target.codec
        self.random = Random(seed)  # noqa: S311 - repeatable randomness, not a secret

    def call(self, task_name: str, *values: object) -> Call:
        """Return a call with positional arguments, or with keywords `a`, `b`, `c` … if the codec takes only those."""
        if self.codec.keyword_only:
            return self.codec.encode_call(task_name, (), dict(zip("abcdefgh", values, strict=False)))
        return self.codec.encode_call(task_name, values, {})

    async def result(self, value: object) -> bytes:
        """Return the bytes of an encoded result."""

        async def task() -> object:
            return value

        return await self.codec.invoke_task(self.codec.encode_call("task", (), {}), task)

    async def arguments(
        self, call: Call, task: Callable[..., Any] | None = None
    ) -> tuple[list[object], dict[str, object]]:
        """Invoke a task that takes any arguments, or the given one, and return the recorded arguments."""
        seen: list[tuple[list[object], dict[str, object]]] = []

        async def anything(*args: object, **kwargs: object) -> None:
            seen.append((list(args), kwargs))

        await self.codec.invoke_task(call, task or anything)
        return seen[0] if seen else ([], {})
