"""Requests of up to ten entries, of which SQS may do some: what failed for now is asked for again, item by item."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from brrr_aws.concurrency import run_concurrently
from brrr_aws.error_codes import THROTTLED
from brrr_core.errors import BackendError
from brrr_sqs.bodies import size
from brrr_sqs.queues import Queues

__all__ = ["Entry", "in_batches"]

Entry = Mapping[str, Any]
"""One entry of a batch request, without its Id."""

MOST_ENTRIES: Final = 10
MOST_BYTES: Final = 256 * 1024
"""Bytes of the messages of one request, which every SQS takes; a message that is larger goes alone."""

SIDE_BY_SIDE: Final = 8
"""Requests of one operation that are under way at the same time."""


async def in_batches(
    queues: Queues,
    name: str,
    operation: str,
    entries: Sequence[Entry],
    *,
    done: Callable[[int], object] = lambda _: None,
    passed: Callable[[Entry], bool] = lambda _: False,
    needed: bool = True,
) -> None:
    """Have all entries done, as many in a request as SQS takes, some requests at the same time.

    Args:
        queues: Asks.
        name: The queue's name.
        operation: As in `SendMessageBatch`.
        entries: What to do.
        done: Is told the place of each entry as soon as it is done.
        passed: Whether an entry that failed counts as done, by what SQS says of it.
        needed: Whether the queue is made if it is not there; otherwise there is nothing to do then, and it is done.

    Raises:
        BackendError: Some entry was refused, or not done in time. All others are done.
    """

    async def run(places: list[int]) -> None:
        waits = queues.client.backoff()
        refused: BackendError | None = None
        while places:
            request = {"Entries": [{"Id": str(place), **entries[place]} for place in places]}
            answer = await queues.ask(name, operation, request, needed=needed)
            if answer is None:
                for place in places:
                    done(place)
                return
            ended = {int(each["Id"]) for each in answer.get("Successful") or ()}
            why = "no word of it"
            for failed in answer.get("Failed") or ():
                code, place = str(failed.get("Code", "")), int(failed["Id"])
                if passed(failed):
                    ended.add(place)
                elif failed.get("SenderFault") and code not in THROTTLED:
                    refused = _refused(queues, name, operation, failed)
                    places = [each for each in places if each != place]
                else:
                    why = code
            for place in places:
                if place in ended:
                    done(place)
            left = [place for place in places if place not in ended]
            if len(left) < len(places):
                waits.progressed()
            places = left
            if places and not await waits.pause():
                raise queues.client.incomplete_error(operation, why)
        if refused is not None:
            raise refused

    await run_concurrently(run, list(_batches(entries)), limit=SIDE_BY_SIDE, keep_going=True)


def _refused(queues: Queues, name: str, operation: str, failed: Entry) -> BackendError:
    return BackendError(
        f"sqs at {queues.client.address} refuses one of {operation} of {name} "
        f"({failed.get('Code')}: {failed.get('Message')})",
        remedy="See what it says; the others of its batch were done.",
    )


def _batches(entries: Sequence[Entry]) -> Iterator[list[int]]:
    """The places of the entries, by the request that they go in."""
    places: list[int] = []
    total = 0
    for place, entry in enumerate(entries):
        weight = size(entry["MessageBody"], entry.get("MessageAttributes", {})) if "MessageBody" in entry else 0
        if places and (len(places) == MOST_ENTRIES or total + weight > MOST_BYTES):
            yield places
            places, total = [], 0
        places.append(place)
        total += weight
    if places:
        yield places
