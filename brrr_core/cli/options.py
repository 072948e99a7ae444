"""The options that commands share, and the types of their values."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final, TypeAlias

from cyclopts import Parameter, Token
from cyclopts.validators import Number

from brrr_core.backend.options import Duration, Size
from brrr_core.engine.policy import Policy
from brrr_core.plugins.values import convert, describe, split_optional

__all__ = [
    "NO_LIMITS",
    "NO_URLS",
    "AsJson",
    "CodecName",
    "Count",
    "DurationOption",
    "Limit",
    "Limits",
    "Quiet",
    "SizeOption",
    "Timeout",
    "Tokens",
    "Topic",
    "Urls",
    "Verbose",
]


def _with_unit(kind: Any, tokens: Sequence[Token]) -> object:
    kind, _ = split_optional(kind)
    try:
        return convert(kind, tokens[0].value)
    except ValueError as error:
        form, example = describe(kind)
        raise ValueError(f"{tokens[0].value!r} is not {form}; write it like {example}") from error


AsJson: TypeAlias = Annotated[
    bool, Parameter(name="--json", negative=(), show_default=False, help="Write JSON for machines, errors included.")
]
"""The option `--json`: write JSON for machines, errors included."""
Verbose: TypeAlias = Annotated[
    bool,
    Parameter(name=("--verbose", "-v"), negative=(), show_default=False, help="Show more details and tracebacks."),
]
"""The option `-v`: show more details and tracebacks."""
Quiet: TypeAlias = Annotated[
    bool, Parameter(name=("--quiet", "-q"), negative=(), show_default=False, help="Show only failures.")
]
"""The option `-q`: show only failures."""
CodecName: TypeAlias = Annotated[
    str, Parameter(name="--codec", env_var="BRRR_CODEC", help="The encoding of arguments and results.")
]
"""The option `--codec`: the name of a codec, or `BRRR_CODEC`."""
Topic: TypeAlias = Annotated[str, Parameter(help="The name of the queue.")]
"""The name of a topic."""
Limit: TypeAlias = Annotated[int | None, Parameter(validator=Number(gte=1), help="The most dead letters.")]
DurationOption: TypeAlias = Annotated[Duration, Parameter(converter=_with_unit, show_default=lambda it: f"{it:g}s")]
"""A time in seconds, like `30s`."""
Timeout: TypeAlias = Annotated[
    Duration | None,
    Parameter(converter=_with_unit, show_default=False, help="The longest wait, like 30s; implies --wait."),
]
SizeOption: TypeAlias = Annotated[Size, Parameter(converter=_with_unit, show_default=lambda it: f"{it / 1024:g}KiB")]
"""A number of bytes, like `64KiB`."""
Count: TypeAlias = Annotated[int, Parameter(validator=Number(gte=1))]
"""An integer from 1."""
Tokens: TypeAlias = Annotated[tuple[str, ...], Parameter(parse=False)]
"""The whole command line, passed to a command that needs it."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Urls:
    """The URLs of the backends.

    Attributes:
        queue: URL of the queue.
        store: URL of the store; by default the queue's backend.
        cache: URL of the cache; by default the queue's backend, or the store's if the queue's has no cache.
    """

    queue: Annotated[str | None, Parameter(env_var="BRRR_QUEUE")] = None
    store: Annotated[str | None, Parameter(env_var="BRRR_STORE")] = None
    cache: Annotated[str | None, Parameter(env_var="BRRR_CACHE")] = None


_CACHE_BYTES: Final = Size(Policy().cache_bytes)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Limits:
    """The settings of a worker: `Policy` as command-line options.

    Attributes:
        max_attempts: A call whose handler raised this many times is dead-lettered.
        max_deliveries: Messages delivered more often than this are dead-lettered without running.
        max_crashes: A call that ended its worker process this many times while it ran alone is dead-lettered.
        spawn_limit: The most messages that one schedule may cause.
        backoff: The delay before the second attempt; it doubles with each attempt.
        backoff_limit: The longest delay between two attempts.
        grace: The time that running handlers have to finish when the worker stops.
        unavailable_timeout: How long to retry a backend that does not answer.
        cache_bytes: The most bytes of values to keep in memory.
        check: Compare each re-run's calls with the run before, and dead-letter calls whose runs differ.
    """

    max_attempts: Count = Policy().max_attempts
    max_deliveries: Count = Policy().max_deliveries
    max_crashes: Count = Policy().max_crashes
    spawn_limit: Count = Policy().spawn_limit
    backoff: DurationOption = Duration(Policy().backoff)
    backoff_limit: DurationOption = Duration(Policy().backoff_limit)
    grace: DurationOption = Duration(Policy().grace)
    unavailable_timeout: DurationOption = Duration(Policy().unavailable_timeout)
    cache_bytes: SizeOption = _CACHE_BYTES
    check: Annotated[bool, Parameter(negative=(), show_default=False)] = False

    def policy(self) -> Policy:
        """Return the policy with these limits."""
        return Policy(**asdict(self))


NO_URLS: Final = Urls()
"""No URL on the command line: the default of a parameter of type `Urls`."""
NO_LIMITS: Final = Limits()
