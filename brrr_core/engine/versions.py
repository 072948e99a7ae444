"""The version of the code with which a call began. A handler that declares one continues only calls that fit.

A call gets its version when its first run defers: from then on, other runs must make the same calls. The record is a
value under a reserved hash. It never changes while the call is unfinished.
"""

from typing import Final

from brrr_core.backend.contracts import Key, Swap
from brrr_core.engine.calls import NotHere
from brrr_core.engine.local_cache import ValueCache
from brrr_core.engine.operations import Operations
from brrr_core.engine.policy import TaskPolicy
from brrr_core.errors import MalformedRecordError, VersionError
from brrr_core.wire import Call

__all__ = ["LOOK_AGAIN", "check_version", "read_version", "record_version", "version_hash"]

LOOK_AGAIN: Final = 5.0
"""Seconds after which a message is put again that only a worker with newer code can handle."""


def version_hash(call_hash: str, retries: int) -> str:
    """Return the reserved hash under which the version of a call is stored. A retried call starts without a version."""
    return f"brrr.version/{call_hash}/{retries}" if retries else f"brrr.version/{call_hash}"


async def read_version(operations: Operations, cache: ValueCache, name: str) -> int | None:
    """Return the version that is stored under a reserved hash; None if the call has not deferred yet.

    Raises:
        MalformedRecordError: The record is not valid.
    """
    record = cache.get(name)
    if record is None:
        (record,) = await operations.read([Key("value", name)])
        if record is None:
            return None
        cache.add(name, record)
    if not (record.isdigit() and len(record) <= 18):
        raise MalformedRecordError(f"the record {name} is {record[:40]!r}", remedy="Delete the record.")
    return int(record)


async def record_version(operations: Operations, cache: ValueCache, name: str, version: int) -> bool:
    """Store the version with which a call began. False if another run of the call stored one first."""
    record = b"%d" % version
    (first,) = await operations.swap([Swap(Key("value", name), None, record)])
    if first:
        cache.add(name, record)
    return first


def check_version(call: Call, topic: str, policy: TaskPolicy, begun: int, *, lease: float) -> None:
    """Check that the code of a handler can continue a call.

    Args:
        call: The call.
        topic: The topic of its message.
        policy: The settings of its handler, which has a version.
        begun: The version with which the call began.
        lease: The lease of the queue, in seconds. A queue without delays can wait no longer.

    Raises:
        NotHere: Another worker must continue it: one with newer code, or one on another topic.
        VersionError: It began with older code.
    """
    assert policy.version is not None  # noqa: S101 - the caller checked it
    has = f"began with version {begun} of its handler, and this worker has version {policy.version}"
    if begun > policy.version:
        raise NotHere(
            f"{call.task_name} {has}; it waits for a worker with version {begun}", after=min(LOOK_AGAIN, lease)
        )
    if begun >= (policy.oldest_version or policy.version):
        return
    elsewhere = policy.old_topics.get(begun)
    if elsewhere is None:
        raise VersionError(
            f"the call {call.call_hash} of {call.task_name!r} {has}",
            remedy=f"Run workers with the old code on a separate topic, and name it: old_topics={{{begun}: "
            f"TOPIC}}. Or set oldest_version={begun}, if this code can continue such calls. Then redrive the call.",
        )
    if elsewhere == topic:
        raise VersionError(
            f"the call {call.call_hash} of {call.task_name!r} {has}, on the topic {topic!r} for version {begun}",
            remedy=f"Let only workers with the old code work on {topic!r}. Then redrive the call.",
        )
    raise NotHere(f"{call.task_name} {has}; it continues on {elsewhere}", topic=elsewhere)
