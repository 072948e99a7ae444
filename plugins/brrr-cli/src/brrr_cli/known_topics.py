"""Refuse a misspelt topic, which would look like an empty one."""

from collections.abc import Mapping
from difflib import get_close_matches

from brrr_cli.output import note
from brrr_core.backend import Queue, QueueStats
from brrr_core.errors import BackendError, UnknownTopicError

__all__ = ["check_known"]


async def check_known(queue: Queue, counted: Mapping[str, QueueStats]) -> None:
    """Check that the topics exist, as far as the queue can list its topics. Those with messages need no list.

    Raises:
        UnknownTopicError: A topic is empty, and the queue has no topic of that name.
    """
    empty = [topic for topic, stats in counted.items() if not any(stats)]
    if not empty or queue.inspector is None:
        return
    try:
        listed = await queue.inspector.topics()
    except BackendError as error:
        note(f"whether the topic exists is not known: {error}")
        return
    for topic in empty:
        if topic not in listed:
            near = get_close_matches(topic, listed, n=3)
            raise UnknownTopicError(
                f"the queue has no topic {topic!r}: it has no message, no dead letter and no receiver, or is misspelt",
                remedy=f"Did you mean {' or '.join(map(repr, near))}?" if near else "`brrr topics` lists the topics.",
            )
