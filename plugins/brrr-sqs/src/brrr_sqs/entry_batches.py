"""Batches of entries: up to ten entries per request to SQS. Entries that fail temporarily are sent again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from brrr_aws.concurrency import run_concurrently
from brrr_aws.error_codes import THROTTLED
from brrr_core.errors import BackendError
from brrr_sqs.bodies import message_size
from brrr_sqs.queues import Queues

__all__ = ["Entry", "run_in_batches"]

Entry = Mapping[str, Any]
"""One entry of a batch request, without its Id."""

ENTRIES_PER_REQUEST: Final = 10
BYTES_PER_REQUEST: Final = 256 * 1024
"""Most bytes of the messages of one request, which every SQS accepts. A larger message goes alone."""

CONCURRENT_REQUESTS: Final = 8
"""Most concurrent requests of one operation."""


async def run_in_batches(
    queues: Queues,
    name: str,
    operation: str,
    entries: Sequence[Entry],
    *,
    done: Callable[[int], object] = lambda _: None,
    passed: Callable[[Entry], bool] = lambda _: False,
    required: bool = True,
) -> None:
    """Run a batch operation for all entries, in full and concurrent requests.

    Args:
        queues: Sends the requests.
        name: Name of the queue.
        operation: Name of the operation, such as `SendMessageBatch`.
        entries: The entries.
        done: Called with the index of each entry as soon as it has succeeded.
        passed: Whether a failed entry counts as succeeded, by SQS' description of the failure.
        required: Whether to create a missing queue. Otherwise all entries of a missing queue count as succeeded.

    Raises:
        BackendError: SQS refused an entry, or did not process it in time. All others succeeded.
    """

    async def run(indexes: list[int]) -> None:
        pauses = queues.client.backoff()
        refused: BackendError | None = None
        while indexes:
            request = {"Entries": [{"Id": str(index), **entries[index]} for index in indexes]}
            response = await queues.call(name, operation, request, required=required)
            if response is None:
                for index in indexes:
                    done(index)
                return
            succeeded = {int(each["Id"]) for each in response.get("Successful") or ()}
            reason = "the response does not mention it"
            for failed in response.get("Failed") or ():
                code, index = str(failed.get("Code", "")), int(failed["Id"])
                if passed(failed):
                    succeeded.add(index)
                elif failed.get("SenderFault") and code not in THROTTLED:
                    refused = _refused(queues, name, operation, failed)
                    indexes = [each for each in indexes if each != index]
                else:
                    reason = code
            for index in indexes:
                if index in succeeded:
                    done(index)
            left = [index for index in indexes if index not in succeeded]
            if len(left) < len(indexes):
                pauses.progressed()
            indexes = left
            if indexes and not await pauses.pause():
                raise queues.client.incomplete_error(operation, reason)
        if refused is not None:
            raise refused

    await run_concurrently(run, list(_batches(entries)), limit=CONCURRENT_REQUESTS, keep_going=True)


def _refused(queues: Queues, name: str, operation: str, failed: Entry) -> BackendError:
    return BackendError(
        f"sqs at {queues.client.address} refuses one of {operation} of {name} "
        f"({failed.get('Code')}: {failed.get('Message')})",
        remedy="Fix the problem that the message describes. The other entries of the batch succeeded.",
    )


def _batches(entries: Sequence[Entry]) -> Iterator[list[int]]:
    """Yield the indexes of the entries of each request."""
    indexes: list[int] = []
    total = 0
    for index, entry in enumerate(entries):
        size = message_size(entry["MessageBody"], entry.get("MessageAttributes", {})) if "MessageBody" in entry else 0
        if indexes and (len(indexes) == ENTRIES_PER_REQUEST or total + size > BYTES_PER_REQUEST):
            yield indexes
            indexes, total = [], 0
        indexes.append(index)
        total += size
    if indexes:
        yield indexes
