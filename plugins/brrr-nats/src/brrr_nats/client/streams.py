"""Streams: found, created if missing, and refused if their configuration could lose data."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from brrr_core.errors import BackendError
from brrr_nats.client.errors import STREAM_NOT_FOUND, ApiError, DeniedError
from brrr_nats.client.requests import RequestClient

__all__ = ["DUPLICATE_WINDOW_NS", "NS_PER_SECOND", "StreamSpec", "ensure_stream", "find_stream"]

NS_PER_SECOND: Final = 1_000_000_000
"""JetStream's configurations count nanoseconds."""

DUPLICATE_WINDOW_NS: Final = 120 * NS_PER_SECOND
"""Time for which a stream recognises a message id, unless it keeps messages for less."""

NAME_IN_USE: Final = 10058
TOO_MANY_CONSUMERS: Final = 10026
MAX_CONSUMERS: Final = "max_consumers"
UNCHANGEABLE: Final = ("retention", "storage", "allow_msg_counter")
"""Settings that a server does not change on an existing stream."""


class StreamSpec(NamedTuple):
    """The required configuration of a stream.

    Attributes:
        config: The settings, by JetStream's names, with `name` and `subjects`. The server, or the operator who made the
            stream, chooses all others, and also `max_consumers` of an existing stream.
        unbounded: Whether nothing may be discarded by age, number or size.
    """

    config: Mapping[str, Any]
    unbounded: bool = True

    @property
    def name(self) -> str:
        """The stream's name."""
        return str(self.config["name"])


async def find_stream(client: RequestClient, name: str) -> Mapping[str, Any] | None:
    """Return the configuration of a stream, or None if it does not exist. Raises `BackendError`."""
    try:
        found: Mapping[str, Any] = (await client.call_api(f"STREAM.INFO.{name}"))["config"]
    except ApiError as error:
        if error.code != STREAM_NOT_FOUND:
            raise client.to_brrr_error(error) from error
        return None
    return found


async def ensure_stream(
    client: RequestClient, spec: StreamSpec, config: Mapping[str, Any] | None, *, change: bool = False
) -> list[str]:
    """Check a stream against its specification; create it if it is missing. Return the changes, one line each.

    Args:
        client: The client.
        spec: The required configuration.
        config: The result of `find_stream`.
        change: Whether to change settings that can be changed without a loss, as `setup` does.

    Raises:
        BackendError: The stream cannot be created or changed, or has another purpose.
        BackendUnavailableError: JetStream does not reply.
    """
    name = spec.name
    if config is None:
        return await _create(client, spec)
    _refuse_unfit(client, spec, config)
    differences = _differences(spec, config)
    if not differences:
        return []
    if not change:
        raise BackendError(
            f"the stream {name} of nats at {client.servers} has {_shown(differences, config)}",
            remedy=f"It needs {_shown(differences, spec.config)}: run brrr setup with this URL.",
        )
    with client.translating():
        await client.call_api(f"STREAM.UPDATE.{name}", {**config, **differences})
    return [f"changed the stream {name}: {_shown(differences, differences)}"]


async def _create(client: RequestClient, spec: StreamSpec) -> list[str]:
    try:
        await client.call_api(f"STREAM.CREATE.{spec.name}", spec.config)
    except ApiError as error:
        if error.code == TOO_MANY_CONSUMERS and MAX_CONSUMERS in spec.config:  # the account's limit is lower
            fewer = {name: value for name, value in spec.config.items() if name != MAX_CONSUMERS}
            return await _create(client, StreamSpec(fewer, spec.unbounded))
        if error.code == NAME_IN_USE:  # another client has just created it, perhaps differently
            return await ensure_stream(client, spec, await find_stream(client, spec.name))
        raise client.to_brrr_error(error) from error
    except BackendError as error:
        if isinstance(error.__cause__, DeniedError):
            raise BackendError(
                f"nats at {client.servers} has no stream {spec.name}, and does not permit this user to create it",
                remedy="Run brrr setup with this URL as a user with that permission.",
            ) from error
        raise
    return [f"made the stream {spec.name}, kept on {spec.config.get('num_replicas', 1)} server(s)"]


def _refuse_unfit(client: RequestClient, spec: StreamSpec, config: Mapping[str, Any]) -> None:
    """Refuse a stream that cannot be corrected without a loss."""
    wrong = [name for name in UNCHANGEABLE if name in spec.config and config.get(name, False) != spec.config[name]]
    if spec.unbounded:
        wrong += [name for name in ("max_age", "max_msgs_per_subject") if config.get(name, 0) > 0]
        # With `discard: new`, a full stream refuses new messages; with `old`, it discards stored ones.
        if config.get("discard") == "old":
            wrong += [name for name in ("max_msgs", "max_bytes") if config.get(name, -1) > 0]
    if wrong:
        raise BackendError(
            f"the stream {spec.name} of nats at {client.servers} is unsuitable: it has {_shown(wrong, config)}",
            remedy="Give another name in the URL, or move its messages, delete it and run brrr setup.",
        )


def _differences(spec: StreamSpec, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings to change: missing subjects, disabled features, too few replicas."""
    differences: dict[str, Any] = {}
    for name in spec.config.keys() - {"name", "discard", MAX_CONSUMERS, *UNCHANGEABLE}:
        value, present = spec.config[name], config.get(name)
        if name == "subjects":
            if set(value) - set(present or ()):
                differences[name] = sorted({*value, *(present or ())})
        elif name == "num_replicas":
            if (present or 1) < value:
                differences[name] = value
        elif present != value and (value or present):
            differences[name] = value
    return dict(sorted(differences.items()))


def _shown(names: Iterable[str], config: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {config.get(name, 'unset')!r}" for name in names)
