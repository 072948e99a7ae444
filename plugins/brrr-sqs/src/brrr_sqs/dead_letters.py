"""Dead letters: a second queue for each topic, which is read by receiving from it.

SQS cannot show messages without receiving them. A reader hides the dead letters for a while, and then shows them again.
"""

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

from brrr_aws.client import AwsClient
from brrr_core.backend import DeadLetter
from brrr_sqs.entry_batches import run_in_batches
from brrr_sqs.messages import MESSAGES_PER_REQUEST, RECEIVE_PARAMETERS, message_entry, parse_dead_letter
from brrr_sqs.queues import Queues, names_of

__all__ = ["DeadLetters"]

ResultT = TypeVar("ResultT")

HIDDEN_SECONDS: Final = 60
"""Time that dead letters are hidden while they are read or moved. If this process dies, they reappear after it."""

POLL_SECONDS: Final = 1
"""Time that a read waits. Without waiting, SQS asks only some of its servers and misses letters."""

EXTRA_LETTERS: Final = 100
"""Letters beyond the requested number that are read, to find the oldest."""

LETTERS_PER_ROUND: Final = 500
"""Most letters that are read together. They are moved or deleted before the next are read and seen twice."""


class DeadLetters:
    """Dead letters of the topics of one backend.

    Args:
        queues: Sends requests to SQS.
        polls: The client for polls, whose responses take long.
        prefix: Prefix of the queues' names.
    """

    def __init__(self, queues: Queues, polls: AwsClient, *, prefix: str) -> None:
        self._queues = queues
        self._polls = polls
        self._prefix = prefix

    async def oldest(self, topic: str, limit: int) -> list[DeadLetter]:
        """Return the oldest dead letters."""
        return await self._run_to_the_end(self._look(topic, limit), "brrr reads dead letters")

    async def redrive(self, topic: str, limit: int) -> int:
        """Send the oldest dead letters as new messages, then delete them. A crash in between leaves both."""
        return await self._run_to_the_end(self._take(topic, limit, send=True), "brrr redrives dead letters")

    async def drop(self, topic: str, limit: int) -> int:
        """Delete the oldest dead letters."""
        return await self._run_to_the_end(self._take(topic, limit, send=False), "brrr drops dead letters")

    async def _run_to_the_end(self, work: Coroutine[Any, Any, ResultT], name: str) -> ResultT:
        """Run to the end even if the caller is cancelled: otherwise SQS would hide the letters for a minute."""
        return await self._queues.gate.result(self._queues.gate.start(work, name=name))

    async def _look(self, topic: str, limit: int) -> list[DeadLetter]:
        found = await self._read(topic, limit)
        await self._make_visible(topic, [each for _, each in found])
        return [each for each, _ in found[:limit]]

    async def _take(self, topic: str, limit: int, *, send: bool) -> int:
        names = names_of(self._prefix, topic)
        taken = 0
        while taken < limit:
            wanted = min(limit - taken, LETTERS_PER_ROUND)
            found = await self._read(topic, wanted)
            oldest, others = found[:wanted], found[wanted:]
            try:
                if send:
                    entries = [message_entry(each.body) for each, _ in oldest]
                    await run_in_batches(self._queues, names.main, "SendMessageBatch", entries)
                handles = [{"ReceiptHandle": each["ReceiptHandle"]} for _, each in oldest]
                await run_in_batches(self._queues, names.dead, "DeleteMessageBatch", handles, required=False)
            finally:
                await self._make_visible(topic, [each for _, each in others])
            taken += len(oldest)
            if len(oldest) < wanted:
                break
        return taken

    async def _read(self, topic: str, wanted: int) -> list[tuple[DeadLetter, Mapping[str, Any]]]:
        """Return dead letters, the oldest first. SQS returns them unordered, so more than `wanted` are read."""
        name = names_of(self._prefix, topic).dead
        request = {
            **RECEIVE_PARAMETERS,
            "MaxNumberOfMessages": MESSAGES_PER_REQUEST,
            "WaitTimeSeconds": POLL_SECONDS,
            "VisibilityTimeout": HIDDEN_SECONDS,
        }
        found: dict[str, Mapping[str, Any]] = {}
        while len(found) < wanted + EXTRA_LETTERS:
            response = await self._queues.call(name, "ReceiveMessage", request, required=False, client=self._polls)
            new: Sequence[Mapping[str, Any]] = (response or {}).get("Messages") or ()
            if not new:
                break
            found.update((each["MessageId"], each) for each in new)
        letters = [(parse_dead_letter(topic, each), each) for each in found.values()]
        return sorted(letters, key=lambda each: each[0].buried_at)

    async def _make_visible(self, topic: str, found: Sequence[Mapping[str, Any]]) -> None:
        entries = [{"ReceiptHandle": each["ReceiptHandle"], "VisibilityTimeout": 0} for each in found]
        await run_in_batches(
            self._queues,
            names_of(self._prefix, topic).dead,
            "ChangeMessageVisibilityBatch",
            entries,
            passed=lambda _: True,  # a letter that cannot be shown now reappears after HIDDEN_SECONDS
            required=False,
        )
