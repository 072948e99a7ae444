"""Compare-and-set by revisions: compare the record, then publish the change with its revision as the guard.

The swaps of one key run in turn, and all keys run together, so a batch takes as many round trips as its most contended
key. A cached state saves the read. It is a guess until a server confirms it: before a swap is reported as failed, a
wrong guess or a failed guard is checked by a read.
"""

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from math import inf
from typing import Final, NamedTuple

from brrr_core.errors import BackendUnavailableError
from brrr_nats.client.errors import ApiError, NoReplyError, api_error
from brrr_nats.client.protocol import Reply, Request
from brrr_nats.client.request_batch import GuardedResends
from brrr_nats.client.requests import RequestClient
from brrr_nats.store.idempotency import SwapAttempt
from brrr_nats.store.reads import RecordReader
from brrr_nats.store.revisions import StoredRecord
from brrr_nats.store.writes import WRONG_REVISION_CODES, ChangeBuilder, acked_revision, is_value, write_error

__all__ = ["ANY", "PendingSwap", "SwapChain", "perform_swaps"]

ABSENT: Final = StoredRecord(None, 0)
FIRST_PAUSE_SECONDS: Final = 0.002
MAX_REFUSALS: Final = 100
"""Failed guards in turn although the record did not change; with the pauses, more than a minute."""


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
    """The swaps of one key, and their progress.

    Args:
        subject: The key's subject.
        known: The cached state, if any.

    Attributes:
        attempt: The current change if an earlier copy of it may have been done.
    """

    __slots__ = ("_at", "_must_read", "attempt", "changes", "confirmed", "known", "refusals", "subject")

    def __init__(self, subject: str, known: StoredRecord | None) -> None:
        self.subject = subject
        self.changes: list[PendingSwap] = []
        self.known = known
        self.confirmed = False
        self.refusals = 0
        self.attempt: SwapAttempt | None = None
        self._at = 0
        self._must_read = False

    @property
    def change(self) -> PendingSwap:
        """The next swap."""
        return self.changes[self._at]

    def step(self, results: list[bool]) -> _Step:
        """Return the next step, after deciding the swaps that the confirmed state decides."""
        while self._at < len(self.changes):
            if self._must_read:
                return _Step.READ
            position, expected, new = self.change
            known = self.known
            if known is None:
                if expected is not None or new is None:
                    return _Step.READ
                known = self.known = ABSENT  # most creates are of new records
            fits = expected is ANY or is_value(known, expected)
            if fits and not (is_value(known, None) and new is None):
                return _Step.PUBLISH if self.confirmed or expected is not ANY else _Step.READ
            if not self.confirmed:
                return _Step.READ
            results[position] = fits
            self._at += 1
        return _Step.DONE

    def on_read(self, found: StoredRecord, results: list[bool]) -> None:
        """Handle a record that was read. Raises `NoReplyError` if it cannot tell whether the change took place."""
        self._must_read = False
        if self.attempt is not None:
            if self.attempt.is_done(found):
                self.on_changed(found, results)
                return
            if self.attempt.is_over(found):
                self.attempt = None
        if self.known is not None and self.known.revision != found.revision:
            self.refusals = 0
        self.known, self.confirmed = found, True

    def on_changed(self, new: StoredRecord, results: list[bool]) -> None:
        """Handle success."""
        results[self.change.position] = True
        self.known, self.confirmed, self.refusals, self.attempt = new, True, 0, None
        self._at += 1

    def note_doubt(self, mark: str, before: int, since: float, changes: ChangeBuilder) -> None:
        """Note that the change may have been done by an unanswered copy."""
        if self.attempt is None and self.known is not None:
            self.attempt = SwapAttempt(mark, self.known.revision, before, since, changes.marks)

    def require_read(self) -> None:
        """Read the record before the next step."""
        self._must_read, self.confirmed = True, False

    def on_refused(self, error: ApiError) -> None:
        """Handle a failed guard."""
        if self.attempt is None and error.text.endswith(": 0") and self.known != ABSENT:
            self.known, self.confirmed = (
                ABSENT,
                False,
            )  # the error names the last revision, but so does a deposed leader's
            return
        self.refusals += self.confirmed
        self._must_read = True
        if not self.confirmed:
            self.known = None
        self.confirmed = False


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
        steps = [(chain, chain.step(results)) for chain in left]
        unread = [chain for chain, step in steps if step is _Step.READ]
        if any(chain.refusals for chain in unread):
            _check_refusals(unread, client)
            pause = await client.pause(pause)
        for chain, found in zip(unread, await records.find([each.subject for each in unread]), strict=True):
            try:
                chain.on_read(found, results)
            except NoReplyError as error:
                raise client.to_brrr_error(error) from error
        left = [chain for chain, step in steps if step is not _Step.DONE]
        publishable = [chain for chain in left if chain.step(results) is _Step.PUBLISH]
        if publishable:
            await _publish(publishable, results, records.last_sequence, client=client, changes=changes())


async def _publish(
    chains: Sequence[SwapChain], results: list[bool], before: int, *, client: RequestClient, changes: ChangeBuilder
) -> None:
    """Publish the next change of each chain, all together; values in parts one by one."""
    mark = changes.marks.next()  # one mark for all: each change is of another record
    single: list[SwapChain] = []
    requests: list[Request] = []
    for chain in chains:
        its = mark if chain.attempt is None else chain.attempt.mark
        messages = changes.messages(chain.subject, chain.change.new, old=chain.known, mark=its)
        if len(messages) == 1:
            single.append(chain)
            requests += messages
        else:
            await _publish_batch(chain, messages, mark, results, before, client=client, changes=changes)
    untils = [chain.attempt.until for chain in single if chain.attempt is not None]
    resends = GuardedResends(changes.marks.resend_window, min(untils, default=inf))
    replies = await client.request_many(requests, resends=resends)
    for position, since in resends.since.items():
        single[position].note_doubt(mark, before, since, changes)
    failed: Exception | None = None
    for chain, reply in zip(single, replies, strict=True):
        try:
            _handle_reply(chain, reply, results, client=client, changes=changes)
        except Exception as error:  # noqa: BLE001 - raised below, after the other replies
            failed = error
    if failed is not None:
        raise failed


async def _publish_batch(
    chain: SwapChain,
    messages: Sequence[Request],
    mark: str,
    results: list[bool],
    before: int,
    *,
    client: RequestClient,
    changes: ChangeBuilder,
) -> None:
    """Publish a value in parts. If the reply is lost, read the record, and repeat the change if it was not done."""
    started = asyncio.get_running_loop().time()
    try:
        # A stream takes 50 batches at a time: repeat the first message until this batch is one of them.
        await client.request_many(messages[:1])
        if chain.attempt is not None and asyncio.get_running_loop().time() >= chain.attempt.until:
            chain.require_read()  # no time is left for copies: the stored record decides
            return
        reply = (await client.request_many(messages[1:]))[-1]
    except BackendUnavailableError as error:
        if not isinstance(error.__cause__, NoReplyError) or not error.__cause__.sent:
            raise
        chain.note_doubt(mark, before, started, changes)
        chain.require_read()
    else:
        _handle_reply(chain, reply, results, client=client, changes=changes)


def _handle_reply(
    chain: SwapChain, reply: Reply, results: list[bool], *, client: RequestClient, changes: ChangeBuilder
) -> None:
    """Handle the reply to a change."""
    error = api_error(reply.payload)
    attempt = chain.attempt
    if attempt is not None and (attempt.late if error is None else error.code not in WRONG_REVISION_CODES):
        lost = NoReplyError(error or TimeoutError("a copy was answered too late"), sent=True)
        raise client.to_brrr_error(lost) from lost
    if error is None:
        chain.on_changed(changes.record_for(chain.change.new, acked_revision(reply)), results)
    elif error.code in WRONG_REVISION_CODES:
        chain.on_refused(error)
    else:
        raise write_error(error, client) from error


def _check_refusals(chains: Sequence[SwapChain], client: RequestClient) -> None:
    for chain in chains:
        if chain.refusals > MAX_REFUSALS:
            raise BackendUnavailableError(
                f"nats at {client.servers} refuses every change of {chain.subject}, but the record does not change",
                remedy="The stream's leader may be cut off: see `nats stream report`.",
            )
