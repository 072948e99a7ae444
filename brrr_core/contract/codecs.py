"""What rules about codecs work with: the codec, seeded chance, and calls as its kind of codec takes them."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from brrr_core.codec.contracts import Codec
from brrr_core.errors import CodecError, ContractError
from brrr_core.plugins import load_codec
from brrr_core.wire import Call

__all__ = ["CodecContext", "CodecTarget"]


@dataclass(frozen=True, slots=True)
class CodecTarget:
    """A codec under test.

    Attributes:
        name: What the report calls it.
        codec: The codec.
        place: How other processes get one: its name, or `module:class`; None where they cannot.
    """

    name: str
    codec: Codec
    place: str | None

    @classmethod
    def of(cls, codec: object) -> "CodecTarget":
        """The codec of that name, or the object.

        Raises:
            ContractError: It is neither a name nor a codec.
            PluginError: The name's plugin cannot be used.
        """
        if not isinstance(codec, str | Codec):
            raise ContractError(
                f"the codec to test is a {type(codec).__name__}",
                remedy="Name one, like 'json', or give a Codec object.",
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
    """What one run of one rule about codecs works with."""

    def __init__(self, target: CodecTarget, seed: str) -> None:
        self.target = target
        self.codec = target.codec
        self.random = Random(seed)  # noqa: S311 - chance that can be repeated, not a secret

    def call(self, task_name: str, *values: object) -> Call:
        """A call with these arguments, by position or, where the codec knows names only, as `a`, `b`, `c` and so on."""
        if self.codec.keyword_only:
            return self.codec.encode_call(task_name, (), dict(zip("abcdefgh", values, strict=False)))
        return self.codec.encode_call(task_name, values, {})

    async def result(self, value: object) -> bytes:
        """The bytes of a result."""

        async def task() -> object:
            return value

        return await self.codec.invoke_task(self.codec.encode_call("task", (), {}), task)

    async def arguments(
        self, call: Call, task: Callable[..., Any] | None = None
    ) -> tuple[list[object], dict[str, object]]:
        """What a task is called with: a task of any parameters, unless one is given that returns them itself."""
        seen: list[tuple[list[object], dict[str, object]]] = []

        async def anything(*args: object, **kwargs: object) -> None:
            seen.append((list(args), kwargs))

        await self.codec.invoke_task(call, task or anything)
        return seen[0] if seen else ([], {})
