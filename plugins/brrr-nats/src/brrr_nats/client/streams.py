"""Streams: looked for, made where they are missing, and refused where they would lose what they are given."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from brrr_core.errors import BackendError
from brrr_nats.client.errors import STREAM_NOT_FOUND, ApiError, DeniedError
from brrr_nats.client.requests import Link

__all__ = ["DUPLICATES", "SECOND", "Wanted", "ensure_stream", "find_stream"]

SECOND: Final = 1_000_000_000
"""JetStream's configurations have nanoseconds."""

DUPLICATES: Final = 120 * SECOND
"""For how long a stream knows the id of a message again, unless it keeps messages for less."""

NAME_IN_USE: Final = 10058
TOO_MANY_CONSUMERS: Final = 10026
MAX_CONSUMERS: Final = "max_consumers"
PERMANENT: Final = ("retention", "storage", "allow_msg_counter")
"""What no server changes on a stream that exists."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A stream as it has to be.

    Attributes:
        config: Its configuration, by JetStream's names; `name` and `subjects` among them. What it does not name is left
            to the server, and to whoever has made the stream; so is `max_consumers` of one that exists.
        unbounded: Whether nothing may be thrown away by age, number or size.
    """

    config: Mapping[str, Any]
    unbounded: bool = True

    @property
    def name(self) -> str:
        """The stream's name."""
        return str(self.config["name"])


async def find_stream(link: Link, name: str) -> Mapping[str, Any] | None:
    """The configuration of a stream, None where there is none.

    Raises:
        BackendError: JetStream refuses to tell.
        BackendUnavailableError: It does not answer.
    """
    try:
        found: Mapping[str, Any] = (await link.ask(f"STREAM.INFO.{name}"))["config"]
    except ApiError as error:
        if error.code != STREAM_NOT_FOUND:
            raise link.translated(error) from error
        return None
    return found


async def ensure_stream(
    link: Link, wanted: Wanted, config: Mapping[str, Any] | None, *, change: bool = False
) -> list[str]:
    """See that a stream is there, and is as it has to be; make it where it is missing.

    Args:
        link: To ask.
        wanted: What has to be.
        config: What `find_stream` has found.
        change: Whether to change what can be changed without a loss, as `setup` does.

    Returns:
        What was done, a line each.

    Raises:
        BackendError: It cannot be made or changed, or is made for something else.
        BackendUnavailableError: JetStream does not answer.
    """
    name = wanted.name
    if config is None:
        return await _create(link, wanted)
    _refuse_others(link, wanted, config)
    different = _differences(wanted, config)
    if not different:
        return []
    if not change:
        raise BackendError(
            f"the stream {name} of nats at {link.where} has {_shown(different, config)}",
            remedy=f"It needs {_shown(different, wanted.config)}: run brrr setup with this URL.",
        )
    try:
        await link.ask(f"STREAM.UPDATE.{name}", {**config, **different})
    except ApiError as error:
        raise link.translated(error) from error
    return [f"changed the stream {name}: {_shown(different, different)}"]


async def _create(link: Link, wanted: Wanted) -> list[str]:
    try:
        await link.ask(f"STREAM.CREATE.{wanted.name}", wanted.config)
    except ApiError as error:
        if error.code == TOO_MANY_CONSUMERS and MAX_CONSUMERS in wanted.config:  # the account allows fewer
            fewer = {name: value for name, value in wanted.config.items() if name != MAX_CONSUMERS}
            return await _create(link, Wanted(fewer, wanted.unbounded))
        if error.code == NAME_IN_USE:  # somebody was quicker, with a configuration of their own
            return await ensure_stream(link, wanted, await find_stream(link, wanted.name))
        raise link.translated(error) from error
    except BackendError as error:
        if isinstance(error.__cause__, DeniedError):
            raise BackendError(
                f"nats at {link.where} has no stream {wanted.name}, and does not permit that this user makes it",
                remedy="Run brrr setup with this URL, as a user who may.",
            ) from error
        raise
    return [f"made the stream {wanted.name}, kept on {wanted.config.get('num_replicas', 1)} server(s)"]


def _refuse_others(link: Link, wanted: Wanted, config: Mapping[str, Any]) -> None:
    """Refuse what cannot be mended by a change that loses nothing."""
    wrong = [name for name in PERMANENT if name in wanted.config and config.get(name, False) != wanted.config[name]]
    if wanted.unbounded:
        wrong += [name for name in ("max_age", "max_msgs_per_subject") if config.get(name, 0) > 0]
        # With `discard: new` a limit refuses what is new, and says so; with `old` it throws away what was accepted.
        if config.get("discard") == "old":
            wrong += [name for name in ("max_msgs", "max_bytes") if config.get(name, -1) > 0]
    if wrong:
        raise BackendError(
            f"the stream {wanted.name} of nats at {link.where} is not made for this: it has {_shown(wrong, config)}",
            remedy="Give another name in the URL, or move what it holds and have brrr setup make it.",
        )


def _differences(wanted: Wanted, config: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be changed: subjects that are missing, features that are off, replicas that are too few."""
    different: dict[str, Any] = {}
    for name, value in wanted.config.items():
        if name in {"name", "discard", MAX_CONSUMERS, *PERMANENT}:
            continue
        present = config.get(name)
        if name == "subjects":
            if set(value) - set(present or ()):
                different[name] = sorted({*value, *(present or ())})
        elif name == "num_replicas":
            if (present or 1) < value:
                different[name] = value
        elif present != value and (value or present):
            different[name] = value
    return different


def _shown(names: Any, config: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {config.get(name, 'unset')!r}" for name in names)
