"""The settings of workers and schedules: limits, retries and timeouts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Final, Literal, TypeAlias, cast, get_args

from brrr_core.errors import BrrrError, CallFailedError, DeadlineExceededError, PolicyError, TerminalError

__all__ = ["NO_SETTINGS", "RETURNS_LIMIT", "OnExhausted", "Policy", "TaskPolicy"]

OnExhausted: TypeAlias = Literal["bury", "fail"]
"""How to handle a call whose attempts are used up: dead-letter its message, or also let it fail for its callers."""

RETURNS_LIMIT: Final = 1_000
"""The most returns in one pending record. It keeps the record of a widely shared child below a megabyte."""

_AT_LEAST_ONE: Final = ("spawn_limit", "max_attempts", "max_deliveries", "max_crashes", "resend_after", "stale_after")

_OPTIONAL: Final = ("resend_after", "stale_after")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The settings of a connection's workers and schedules.

    Attributes:
        spawn_limit: The most messages that one schedule may cause, including all its calls and wake-ups. `schedule` can
            set another limit for one schedule.
        max_attempts: The most attempts of a call whose handler raises. Other deliveries do not count.
        on_exhausted: How to handle a call whose attempts are used up. With `bury`, its message is
            dead-lettered and its callers wait for a redrive. With `fail`, its callers also get a `CallFailedError`.
        max_deliveries: A message that was delivered more often than this is dead-lettered without running.
        max_crashes: A call is dead-lettered after it ended its worker process this many times while it ran alone.
        backoff: Seconds before the second attempt. Each further attempt waits twice as long.
        backoff_limit: The most seconds between two attempts.
        grace: Seconds that running handlers have to finish when a worker stops.
        unavailable_timeout: Seconds that a worker retries a queue that does not answer, before its loop raises the
            error. Also the seconds that it keeps a message whose store does not answer, before it releases the message.
        resend_after: Seconds, at least 1, for which brrr assumes that the message of a call still exists. If the call
            is scheduled or called again later, and still has no outcome, its message may be lost, so it is put again.
            None never puts a call again, and clients do not record that they put one.
        stale_after: Seconds, at least 1, after which a call that was put and has no outcome is reported: when a worker
            runs it, when a client waits for it, and by `explain`. None reports none.
        park: Seconds that a worker keeps the handler of a deferred call suspended. If its values arrive in time,
            the handler continues at its `await`, and does not run again from its start. 0 keeps none.
        cache_bytes: The most bytes of values that a worker keeps in memory.
        check: Compare the calls of each re-run with those of the run before. A handler that makes other calls is not
            deterministic, and its call is dead-lettered.
    """

    spawn_limit: int = 1_000_000
    max_attempts: int = 10
    on_exhausted: OnExhausted = "bury"
    max_deliveries: int = 100
    max_crashes: int = 3
    backoff: float = 1.0
    backoff_limit: float = 300.0
    grace: float = 30.0
    unavailable_timeout: float = 60.0
    resend_after: float | None = 3_600.0
    stale_after: float | None = None
    park: float = 1.0
    cache_bytes: int = 4 * 1024 * 1024
    check: bool = False

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            PolicyError: A limit, `resend_after` or `stale_after` is less than 1, another time or size is less than 0,
                or a setting is not a number.
        """
        if self.on_exhausted not in get_args(OnExhausted):
            raise PolicyError(f"on_exhausted is {self.on_exhausted!r}", remedy='Set it to "bury" or "fail".')
        for setting in fields(self):
            value: object = getattr(self, setting.name)
            if setting.name == "on_exhausted" or (setting.name in _OPTIONAL and value is None):
                continue
            least = 1 if setting.name in _AT_LEAST_ONE else 0
            if not isinstance(value, int | float) or not value >= least:
                raise PolicyError(
                    f"{setting.name} is {value!r}", remedy=f"Set {setting.name} to a number of at least {least}."
                )

    def retry_delay(self, attempt: int) -> float:
        """Return the seconds to wait after a failed attempt.

        The delay doubles with each attempt. Half of it is random, so that retries do not come at the same time.
        """
        import random  # here, because decorating a handler loads this module, and `random` loads many

        full = min(self.backoff * 2.0 ** min(attempt - 1, 60), self.backoff_limit)
        return full * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, keeps no secret


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPolicy:
    """The settings of one handler. None leaves a setting to the policy of the connection.

    Attributes:
        max_attempts: See `Policy`.
        backoff: See `Policy`.
        on_exhausted: See `Policy`.
        timeout: The most seconds of one run. A run that takes longer is cancelled, and counts as a failed attempt.
        retry_on: Only these errors are retried. Any other error uses up all attempts immediately.
        fail_on: These errors fail the call immediately, as `TerminalError` does.
        park: Whether a worker may keep the handler suspended at a call without a value.
        replay: Whether `explain` may run the handler to find its calls: it has no effects outside of its calls.
        version: The version of the code; None if unfinished calls may be continued by any code.
        oldest_version: The oldest version whose unfinished calls the code can continue; its own version by default.
        old_topics: The topics whose workers continue calls of older versions, by version.
    """

    max_attempts: int | None = None
    backoff: float | None = None
    on_exhausted: OnExhausted | None = None
    timeout: float | None = None
    retry_on: tuple[type[BaseException], ...] | None = None
    fail_on: tuple[type[BaseException], ...] = ()
    park: bool = True
    replay: bool = False
    version: int | None = None
    oldest_version: int | None = None
    old_topics: Mapping[int, str] = field(default_factory=dict[int, str])

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            PolicyError: A setting is not valid.
        """
        self.applied_to(Policy())
        if self.timeout is not None and not 0 < self.timeout < float("inf"):
            raise PolicyError(f"timeout is {self.timeout!r}", remedy="Set it to a positive number of seconds.")
        for name, kinds in (("retry_on", self.retry_on or ()), ("fail_on", self.fail_on)):
            given = cast("object", kinds)  # callers without types
            if not isinstance(given, tuple) or not all(map(_is_exception_class, cast("tuple[object, ...]", given))):
                raise PolicyError(
                    f"{name} is {kinds!r}", remedy=f"Pass a tuple of exception classes: {name}=(OSError,)."
                )

        self._check_versions()

    def _check_versions(self) -> None:
        for name, version in (("version", self.version), ("oldest_version", self.oldest_version)):
            if version is not None and (type(version) is not int or not 1 <= version < 10**18):
                raise PolicyError(f"{name} is {version!r}", remedy="Count versions from 1: 1, 2, 3.")
        if self.version is None:
            if self.oldest_version is not None or self.old_topics:
                raise PolicyError("the handler has no `version`", remedy="Set `version` to the version of its code.")
            return
        oldest = self.oldest_version or self.version
        if oldest > self.version:
            raise PolicyError(
                f"oldest_version is {oldest}, and version is {self.version}", remedy="Raise `version` with each change."
            )
        for version, topic in self.old_topics.items():
            if not (
                type(version) is int and 1 <= version < oldest and isinstance(cast("object", topic), str) and topic
            ):
                raise PolicyError(
                    f"old_topics has {version!r}: {topic!r}",
                    remedy=f'Give each version before {oldest} at most one topic: old_topics={{1: "billing-v1"}}.',
                )

    def applied_to(self, policy: Policy) -> Policy:
        """Return the policy with the settings of the handler in place of its own."""
        own = {"max_attempts": self.max_attempts, "backoff": self.backoff, "on_exhausted": self.on_exhausted}
        return replace(policy, **{name: value for name, value in own.items() if value is not None})  # type: ignore[arg-type]

    def fails(self, error: BaseException) -> bool:
        """Whether the error fails the call immediately."""
        return isinstance(error, (TerminalError, CallFailedError, DeadlineExceededError, *self.fail_on))

    def retries(self, error: BaseException) -> bool:
        """Whether a retry can help against the error."""
        if isinstance(error, BrrrError):
            return error.retry
        return self.retry_on is None or isinstance(error, self.retry_on)


def _is_exception_class(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


NO_SETTINGS: Final = TaskPolicy()
"""The settings of a handler without own settings."""
