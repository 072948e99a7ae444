"""Compare-and-set by revisions: what is there is compared, and the change is published under its revision's guard.

Each key of a batch takes its swaps in turn; all keys go on together, so that a batch is as many round trips as its most
contended key needs. What is known from before saves the read. It is a guess until a server has confirmed it: a guess
that does not fit, and a guard that does not hold, are looked up before a swap is said to have failed.
"""

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from math import inf
from typing import Final, NamedTuple

from brrr_core.errors import BackendUnavailableError
from brrr_nats.client.errors import ApiError, Lost, api_error
from brrr_nats.client.protocol import Reply, Request
from brrr_nats.client.request_batch import Copies
from brrr_nats.client.requests import Link
from brrr_nats.store.idempotency import Attempt
from brrr_nats.store.reads import Records
from brrr_nats.store.revisions import Stored
from brrr_nats.store.writes import WRONG_LAST, Changes, is_value, not_taken, sequence

__all__ = ["ANY", "Chain", "Change", "perform"]

ABSENT: Final = Stored(None, 0)
FIRST_PAUSE: Final = 0.002
MOST_REFUSALS: Final = 100
"""Guards in turn that fail although nothing has changed: with their pauses, more than a minute."""


class _Any(Enum):
    ANY = 0


ANY: Final = _Any.ANY
"""Expected where a value is written over whatever there is."""


class Change(NamedTuple):
    """A swap, and where its result goes."""

    place: int
    expected: bytes | _Any | None
    new: bytes | None


class _Step(Enum):
    DONE = 0
    READ = 1
    PUBLISH = 2


class Chain:
    """The swaps of one key, and how far they are.

    Args:
        subject: The key's.
        known: What is known of it from before.

    Attributes:
        attempt: The change that is under way, or was, and may have been done.
    """

    __slots__ = ("_at", "_look", "attempt", "changes", "known", "refusals", "subject", "sure")

    def __init__(self, subject: str, known: Stored | None) -> None:
        self.subject = subject
        self.changes: list[Change] = []
        self.known = known
        self.sure = False
        self.refusals = 0
        self.attempt: Attempt | None = None
        self._at = 0
        self._look = False

    @property
    def change(self) -> Change:
        """The one that is next."""
        return self.changes[self._at]

    def step(self, results: list[bool]) -> _Step:
        """What to do next; swaps that are decided by what is known for sure are decided first."""
        while self._at < len(self.changes):
            if self._look:
                return _Step.READ
            place, expected, new = self.change
            known = self.known
            if known is None:
                if expected is not None or new is None:
                    return _Step.READ
                known = self.known = ABSENT  # most records that are created were never there
            fits = expected is ANY or is_value(known, expected)
            if fits and not (is_value(known, None) and new is None):
                return _Step.PUBLISH if self.sure or expected is not ANY else _Step.READ
            if not self.sure:
                return _Step.READ
            results[place] = fits
            self._at += 1
        return _Step.DONE

    def read(self, found: Stored, results: list[bool]) -> None:
        """The servers have said what is there. Raises `Lost` where that does not tell whether the change took place."""
        self._look = False
        if self.attempt is not None:
            if self.attempt.is_done(found):
                self.changed(found, results)
                return
            if self.attempt.is_over(found):
                self.attempt = None
        if self.known is not None and self.known.revision != found.revision:
            self.refusals = 0
        self.known, self.sure = found, True

    def changed(self, new: Stored, results: list[bool]) -> None:
        """The change took place."""
        results[self.change.place] = True
        self.known, self.sure, self.refusals, self.attempt = new, True, 0, None
        self._at += 1

    def doubt(self, mark: str, before: int, since: float, changes: Changes) -> None:
        """The change may have been done, whatever a copy of it is answered."""
        if self.attempt is None and self.known is not None:
            self.attempt = Attempt(mark, self.known.revision, before, since, changes.marks)

    def look(self) -> None:
        """Ask what is there, before anything else."""
        self._look, self.sure = True, False

    def refused(self, error: ApiError) -> None:
        """The guard did not hold."""
        if self.attempt is None and error.text.endswith(": 0") and self.known != ABSENT:
            self.known, self.sure = ABSENT, False  # it says what the last one is; a deposed leader says so too
            return
        self.refusals += self.sure
        self._look = True
        if not self.sure:
            self.known = None
        self.sure = False


async def perform(
    chains: Sequence[Chain], results: list[bool], *, link: Link, records: Records, changes: Callable[[], Changes]
) -> None:
    """Do swaps. `results` is told of each; `changes` says how messages are made at the moment.

    Raises:
        BackendUnavailableError: An answer was lost, and nobody can tell whether that swap took place.
    """
    left, pause = [*chains], FIRST_PAUSE
    while left:
        steps = [(chain, chain.step(results)) for chain in left]
        unread = [chain for chain, step in steps if step is _Step.READ]
        if any(chain.refusals for chain in unread):
            _check_refusals(unread, link)
            pause = await link.pause(pause)
        for chain, found in zip(unread, await records.find([each.subject for each in unread]), strict=True):
            try:
                chain.read(found, results)
            except Lost as error:
                raise link.translated(error) from error
        left = [chain for chain, step in steps if step is not _Step.DONE]
        ready = [chain for chain in left if chain.step(results) is _Step.PUBLISH]
        if ready:
            await _publish(ready, results, records.seen, link=link, changes=changes())


async def _publish(chains: Sequence[Chain], results: list[bool], before: int, *, link: Link, changes: Changes) -> None:
    """Publish the next change of each, all together; but batches one by one. `before` is a number of the stream now."""
    mark = changes.marks.next()  # one for them all: no two are of one record
    single: list[Chain] = []
    requests: list[Request] = []
    for chain in chains:
        its = mark if chain.attempt is None else chain.attempt.mark
        messages = changes.messages(chain.subject, chain.change.new, old=chain.known, mark=its)
        if len(messages) == 1:
            single.append(chain)
            requests += messages
        else:
            await _publish_batch(chain, messages, mark, results, before, link=link, changes=changes)
    untils = [chain.attempt.until for chain in single if chain.attempt is not None]
    copies = Copies(changes.marks.patience, min(untils, default=inf))
    replies = await link.request_many(requests, copies=copies)
    for place, since in copies.since.items():
        single[place].doubt(mark, before, since, changes)
    failed: Exception | None = None
    for chain, reply in zip(single, replies, strict=True):
        try:
            _take(chain, reply, results, link=link, changes=changes)
        except Exception as error:  # noqa: BLE001 - raised below, when the others are noted
            failed = error
    if failed is not None:
        raise failed


async def _publish_batch(
    chain: Chain,
    messages: Sequence[Request],
    mark: str,
    results: list[bool],
    before: int,
    *,
    link: Link,
    changes: Changes,
) -> None:
    """Publish a change of several messages. If its answer is lost it is looked up, and made anew if it was not done."""
    begun = asyncio.get_running_loop().time()
    try:
        # A stream takes 50 batches at a time. The first message is sent again by itself until this is one of them.
        await link.request_many(messages[:1])
        if chain.attempt is not None and asyncio.get_running_loop().time() >= chain.attempt.until:
            chain.look()  # there is no more time for copies: what stands there decides
            return
        reply = (await link.request_many(messages[1:]))[-1]
    except BackendUnavailableError as error:
        if not isinstance(error.__cause__, Lost) or not error.__cause__.sent:
            raise
        chain.doubt(mark, before, begun, changes)
        chain.look()
    else:
        _take(chain, reply, results, link=link, changes=changes)


def _take(chain: Chain, reply: Reply, results: list[bool], *, link: Link, changes: Changes) -> None:
    """Take the answer to a change."""
    error = api_error(reply.payload)
    attempt = chain.attempt
    if attempt is not None and (attempt.late if error is None else error.code not in WRONG_LAST):
        lost = Lost(error or TimeoutError("a copy of it was answered too late"), sent=True)
        raise link.translated(lost) from lost
    if error is None:
        chain.changed(changes.new(chain.change.new, sequence(reply)), results)
    elif error.code in WRONG_LAST:
        chain.refused(error)
    else:
        raise not_taken(error, link) from error


def _check_refusals(chains: Sequence[Chain], link: Link) -> None:
    for chain in chains:
        if chain.refusals > MOST_REFUSALS:
            raise BackendUnavailableError(
                f"nats at {link.where} refuses every change of {chain.subject}, and shows none",
                remedy="Its leader may have lost the others: see `nats stream report`.",
            )
