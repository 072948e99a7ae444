"""Compare-and-swap by revisions: compare the record, then publish the change with the revision that it must still have.

The swaps of one key run in turn, and all keys run together, so a batch takes as many round trips as its most contended
key. A cached state saves the read. It is a guess until a server confirms it: before a swap is reported as failed, a
wrong guess or a refusal is checked by a read.

**Lost replies.** A swap without a reply is sent again on the same connection. The expected revision keeps it from
taking effect twice. If the server stores the second copy, it had dropped the first. If it refuses the second copy, the
first may have taken effect: the result is unknown, and raises. A swap whose connection is lost is not repeated, and
raises.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from brrr_core.errors import BackendUnavailableError
from brrr_nats.client.errors import NoReplyError, api_error
from brrr_nats.client.messages import Reply, Request
from brrr_nats.client.requests import RequestClient
from brrr_nats.store.reads import RecordReader
from brrr_nats.store.records import ABSENT, StoredRecord
from brrr_nats.store.writes import ChangeBuilder, acked_revision, is_value, write_error

__all__ = ["ANY", "PendingSwap", "SwapChain", "perform_swaps"]

FIRST_PAUSE_SECONDS: Final = 0.002
MAX_REFUSALS: Final = 100
"""Refusals in a row although the record did not change; with the pauses, more than a minute."""

MAX_INTERRUPTIONS: Final = 3
"""Times that the parts of one value are sent again because a connection was lost before their commit."""

WRONG_REVISION_CODES: Final = {10071, 10164}
"""Error codes for a wrong revision: another message is stored, or is being stored at the moment."""


class _Any(Enum):
    ANY = 0


ANY: Final = _Any.ANY
"""Expected value of a plain write over any state."""


class PendingSwap(NamedTuple):
    """A swap, and the position of its result."""

    position: int
    expected: bytes | _Any | None
    new: bytes | None


class _Step(Enum):
    DONE = 0
    READ = 1
    PUBLISH = 2


class SwapChain:
    """The swaps of one key, and their progress. `known` is the last known state; `confirmed` means that it was read.

    `ttl` is the time in seconds after which the record expires; 0 for never.
    """

    __slots__ = ("changes", "confirmed", "interruptions", "known", "must_read", "refusals", "subject", "ttl")

    def __init__(
        self, subject: str, known: StoredRecord | None, changes: Sequence[PendingSwap] = (), *, ttl: float = 0
    ) -> None:
        self.subject = subject
        self.ttl = ttl
        self.changes = [*changes]
        self.known = known
        self.confirmed = self.must_read = False
        self.refusals = self.interruptions = 0

    def step(self, results: list[bool]) -> _Step:
        """Return the next step, after deciding the swaps that the confirmed state decides."""
        while self.changes:
            position, expected, new = self.changes[0]
            if self.must_read or (self.known is None and (expected is not None or new is None)):
                return _Step.READ
            known = self.known = self.known or ABSENT  # most creates are of new records
            fits = expected is ANY or is_value(known, expected)
            changes = fits and not (new is None and is_value(known, None))
            if not self.confirmed and (expected is ANY or not changes):
                return _Step.READ
            if changes:
                return _Step.PUBLISH
            results[position] = fits
            self.changes.pop(0)
        return _Step.DONE

    def on_read(self, found: StoredRecord) -> None:
        """Handle a record that was read."""
        if self.known is not None and self.known.revision != found.revision:
            self.refusals = 0
        self.known, self.confirmed, self.must_read = found, True, False

    def on_changed(self, new: StoredRecord, results: list[bool]) -> None:
        """Handle success."""
        results[self.changes.pop(0).position] = True
        self.known, self.confirmed, self.refusals = new, True, 0

    def on_refused(self) -> None:
        """Handle a refusal because of the revision."""
        self.refusals += self.confirmed
        self.known = self.known if self.confirmed else None
        self.confirmed, self.must_read = False, True


async def perform_swaps(
    chains: Sequence[SwapChain],
    results: list[bool],
    *,
    client: RequestClient,
    records: RecordReader,
    changes: Callable[[], ChangeBuilder],
) -> None:
    """Run swaps. `results` gets each result; `changes` returns the current builder.

    Raises:
        BackendUnavailableError: A reply was lost, and it is unknown whether that swap took place.
    """
    left, pause = [*chains], FIRST_PAUSE_SECONDS
    while left:
        unread = [chain for chain in left if chain.step(results) is _Step.READ]
        refused = [chain for chain in unread if chain.refusals]
        if refused:
            _check_refusals(refused, client)
            pause = await client.pause(pause)
        for chain, found in zip(unread, await records.find([each.subject for each in unread]), strict=True):
            chain.on_read(found)
        left = [chain for chain in left if chain.step(results) is _Step.PUBLISH]
        if left:
            await _publish(left, results, client=client, changes=changes())


async def _publish(
    chains: Sequence[SwapChain], results: list[bool], *, client: RequestClient, changes: ChangeBuilder
) -> None:
    """Publish the next change of each chain, all together; values in parts one by one."""
    single: list[SwapChain] = []
    requests: list[Request] = []
    for chain in chains:
        messages = changes.messages(chain.subject, chain.changes[0].new, old=chain.known, ttl=chain.ttl)
        if len(messages) > 1:
            await _publish_batch(chain, messages, results, client=client, changes=changes)
        else:
            single.append(chain)
            requests += messages
    resent: set[int] = set()
    replies = await client.request_many(requests, resent=resent)
    failed: Exception | None = None
    for index, (chain, reply) in enumerate(zip(single, replies, strict=True)):
        try:
            _handle_reply(chain, reply, results, client=client, changes=changes, in_doubt=index in resent)
        except Exception as error:  # noqa: BLE001 - raised below, after the other replies
            failed = error
    if failed is not None:
        raise failed


async def _publish_batch(
    chain: SwapChain,
    messages: Sequence[Request],
    results: list[bool],
    *,
    client: RequestClient,
    changes: ChangeBuilder,
) -> None:
    """Publish a value in parts. Nothing is stored before the commit, so that the parts can be sent again."""
    try:
        # A stream takes 50 batches at a time: repeat the first message until this batch is one of them.
        await client.request_many(messages[:1])
        await client.request_many(messages[1:-1])
    except BackendUnavailableError as error:
        chain.interruptions += 1
        lost = isinstance(error.__cause__, NoReplyError) and error.__cause__.sent
        if not lost or chain.interruptions > MAX_INTERRUPTIONS:
            raise
        chain.confirmed, chain.must_read = False, True
    else:
        (reply,) = await client.request_many(messages[-1:])
        _handle_reply(chain, reply, results, client=client, changes=changes)


def _handle_reply(
    chain: SwapChain,
    reply: Reply,
    results: list[bool],
    *,
    client: RequestClient,
    changes: ChangeBuilder,
    in_doubt: bool = False,
) -> None:
    """Handle the reply to a change. It is `in_doubt` if another copy of it may have taken effect."""
    error = api_error(reply.payload)
    if error is None:
        chain.on_changed(changes.record_for(chain.changes[0].new, acked_revision(reply)), results)
    elif in_doubt:
        lost = NoReplyError(error, sent=True)
        raise client.to_brrr_error(lost) from lost
    elif error.code in WRONG_REVISION_CODES:
        chain.on_refused()
    else:
        raise write_error(error, client) from error


def _check_refusals(chains: Sequence[SwapChain], client: RequestClient) -> None:
    for chain in chains:
        if chain.refusals > MAX_REFUSALS:
            raise BackendUnavailableError(
                f"nats at {client.servers} refuses every change of {chain.subject}, but the record does not change",
                remedy="The stream's leader may be cut off: see `nats stream report`.",
            )
