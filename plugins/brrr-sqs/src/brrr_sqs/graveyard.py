"""Dead letters: a queue of their own for each topic, that is read by receiving, and looked through for the oldest.

SQS has no look at messages that takes none. Whoever reads hides what it reads for a while, and shows it again.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from brrr_aws.client import AwsClient
from brrr_core.backend import DeadLetter
from brrr_sqs.batches import in_batches
from brrr_sqs.messages import RECEIVED, dead_letter, message
from brrr_sqs.names import names_of
from brrr_sqs.queues import Queues

__all__ = ["Graveyard"]

HIDDEN: Final = 60
"""Seconds that letters are hidden while they are read or moved: so late another sees them if this process dies."""

PATIENCE: Final = 1
"""Seconds that a read waits: one that does not asks some servers only, and misses letters."""

MORE: Final = 100
"""Letters beyond those that are asked for that are looked through for older ones."""

ROUND: Final = 500
"""Letters that are moved or deleted before the next are read, so that they are not seen again meanwhile."""

MOST: Final = 10


class Graveyard:
    """The dead letters of one backend's topics.

    Args:
        queues: Asks SQS.
        polls: The client for polls, whose answers take long.
        prefix: What the queues' names begin with.
    """

    def __init__(self, queues: Queues, polls: AwsClient, *, prefix: str) -> None:
        self._queues = queues
        self._polls = polls
        self._prefix = prefix

    async def dead(self, topic: str, limit: int) -> list[DeadLetter]:
        """The oldest letters."""
        found = await self._read(topic, limit)
        await self._show(topic, [each for _, each in found])
        return [each for each, _ in found[:limit]]

    async def redrive(self, topic: str, limit: int) -> int:
        """Send the oldest letters as new messages, and delete them: what dies in between leaves both."""
        return await self._take(topic, limit, send=True)

    async def drop(self, topic: str, limit: int) -> int:
        """Delete the oldest letters."""
        return await self._take(topic, limit, send=False)

    async def _take(self, topic: str, limit: int, *, send: bool) -> int:
        names = names_of(self._prefix, topic)
        taken = 0
        while taken < limit:
            wanted = min(limit - taken, ROUND)
            found = await self._read(topic, wanted)
            mine, others = found[:wanted], found[wanted:]
            try:
                if send:
                    entries = [message(each.body) for each, _ in mine]
                    await in_batches(self._queues, names.main, "SendMessageBatch", entries)
                handles = [{"ReceiptHandle": each["ReceiptHandle"]} for _, each in mine]
                await in_batches(self._queues, names.dead, "DeleteMessageBatch", handles, needed=False)
            finally:
                await self._show(topic, [each for _, each in others])
            taken += len(mine)
            if len(mine) < wanted:
                break
        return taken

    async def _read(self, topic: str, wanted: int) -> list[tuple[DeadLetter, Mapping[str, Any]]]:
        """Letters, the oldest first: some more than are wanted, as SQS gives them in no order."""
        name = names_of(self._prefix, topic).dead
        request = {
            **RECEIVED,
            "MaxNumberOfMessages": MOST,
            "WaitTimeSeconds": PATIENCE,
            "VisibilityTimeout": HIDDEN,
        }
        found: dict[str, Mapping[str, Any]] = {}
        while len(found) < wanted + MORE:
            answer = await self._queues.ask(name, "ReceiveMessage", request, needed=False, client=self._polls)
            new: Sequence[Mapping[str, Any]] = (answer or {}).get("Messages") or ()
            if not new:
                break
            found.update((each["MessageId"], each) for each in new)
        letters = [(dead_letter(topic, each), each) for each in found.values()]
        return sorted(letters, key=lambda each: each[0].buried_at)

    async def _show(self, topic: str, found: Sequence[Mapping[str, Any]]) -> None:
        entries = [{"ReceiptHandle": each["ReceiptHandle"], "VisibilityTimeout": 0} for each in found]
        await in_batches(
            self._queues,
            names_of(self._prefix, topic).dead,
            "ChangeMessageVisibilityBatch",
            entries,
            passed=lambda _: True,  # what cannot be shown shows itself when it was hidden for long enough
            needed=False,
        )
