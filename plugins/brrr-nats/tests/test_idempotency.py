"""Changes that may have been done: decided by the record and by the replies to copies.

The tests give the servers' replies, one at a time; no server runs.
"""

import asyncio
from itertools import count

import pytest

from brrr_core.backend import parse_url
from brrr_core.errors import BackendError, BackendUnavailableError
from brrr_nats.client.errors import NoReplyError
from brrr_nats.client.protocol import Reply, Request
from brrr_nats.client.request_batch import GuardedResends
from brrr_nats.client.requests import RequestClient
from brrr_nats.location import location_of
from brrr_nats.options import NatsOptions
from brrr_nats.store.idempotency import GUARD_HEADER, MARK_HEADER, Marks, SwapAttempt, guard_of
from brrr_nats.store.keys import Bucket
from brrr_nats.store.revisions import StoredRecord
from brrr_nats.store.swaps import PendingSwap, SwapChain, perform_swaps
from brrr_nats.store.writes import ChangeBuilder

MARKS = Marks("p", count(1), 20, 10)
STORED = b'{"stream":"s", "seq":9}'
REFUSED = b'{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: %d"}}'
FULL = b'{"error":{"code":400,"err_code":10047,"description":"insufficient storage"}}'


def now(seconds=0.0):
    return asyncio.get_running_loop().time() + seconds


def stored(value, revision, *, guard=None, mark=None):
    lines = "".join(
        f"{name}: {each}\r\n" for name, each in ((GUARD_HEADER, guard), (MARK_HEADER, mark)) if each is not None
    )
    return StoredRecord(value, revision, None, f"NATS/1.0\r\n{lines}\r\n".encode())


class Given(RequestClient):
    """A client that gives replies in turn and records the requests."""

    def __init__(self, *answers):
        options = NatsOptions()
        super().__init__(location_of(parse_url("nats://h").url, options), options)
        self.answers, self.asked, self.resends, self.found, self.last_sequence = [*answers], [], [], [], 5

    async def request_many(self, messages, *, resends=None, **_):
        if not messages:
            return []
        self.asked.append([message.headers for message in messages])
        self.resends.append(resends)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [Reply(answer)] * len(messages)

    async def find(self, subjects):
        """Return the next records, as `RecordReader` does."""
        return [self.found.pop(0) for _ in subjects]


async def swap(client, *changes, attempt=None, known=None, max_message_bytes=100_000):
    """Return the results of changes of one record, and its chain."""
    chain, results = SwapChain("s", known), [False] * len(changes)
    chain.attempt = attempt
    chain.changes += [PendingSwap(place, old, new) for place, (old, new) in enumerate(changes)]
    made = ChangeBuilder(Bucket("b"), max_message_bytes=max_message_bytes, marks=MARKS)
    await perform_swaps([chain], results, client=client, records=client, changes=lambda: made)
    assert not client.answers
    assert not client.found
    return results, chain


async def test_create_is_unknown_once_markers_may_have_expired():
    create = SwapAttempt("m", 0, 3, now(-21), MARKS)
    assert create.late
    for found in (StoredRecord(None, 0), stored(b"x", 9, guard=0)):
        with pytest.raises(NoReplyError):
            create.is_over(found)
    assert create.is_over(StoredRecord(b"x", 3))  # it existed before
    assert not SwapAttempt("m", 7, 3, now(-21), MARKS).late  # revisions other than 0 never come back


async def test_resend_window_begins_with_the_first_copy_of_all():
    resends = GuardedResends(10)
    assert not resends.in_doubt
    resends.since[3] = 100.0
    assert (resends.until, resends.in_doubt) == (110, True)
    assert (GuardedResends(10, 105).until, GuardedResends(10, 105).in_doubt) == (105, True)


async def test_guard_of_another_subject_is_ignored():
    assert guard_of(stored(b"x", 9, guard=3)) == 3
    assert (
        guard_of(
            StoredRecord(b"x", 9, None, b"NATS/1.0\r\n%b: 3\r\n%b-Subject: t\r\n\r\n" % ((GUARD_HEADER.encode(),) * 2))
        )
        is None
    )


async def test_copy_is_the_same_message_with_the_same_end_of_resending():
    attempt, client = SwapAttempt("m", 4, 5, now(-7), MARKS), Given(STORED)
    client.found = [stored(b"1", 4)]

    results, chain = await swap(client, (b"1", b"2"), attempt=attempt)

    assert (results, client.asked) == ([True], [[{GUARD_HEADER: "4", MARK_HEADER: "m"}]])
    assert client.resends[0].until == attempt.until
    assert chain.attempt is None


async def test_next_change_of_a_record_has_a_new_mark():
    client = Given(STORED, STORED)
    client.found = [stored(b"2", 8, guard=4, mark="m")]

    results, chain = await swap(
        client, (b"1", b"2"), (b"2", b"3"), (b"3", b"4"), attempt=SwapAttempt("m", 4, 5, now(), MARKS)
    )

    assert results == [True] * 3
    assert [headers[GUARD_HEADER] for (headers,) in client.asked] == ["8", "9"]
    assert len({"m", *(headers[MARK_HEADER] for (headers,) in client.asked)}) == 3
    assert chain.attempt is None


async def test_change_that_never_took_place_is_repeated_with_a_new_mark():
    client = Given(STORED)
    client.found = [stored(b"1", 7, guard=4, mark="other")]

    results, _ = await swap(client, (b"1", b"2"), attempt=SwapAttempt("m", 4, 5, now(), MARKS))

    ((headers,),) = client.asked
    assert results == [True]
    assert headers[GUARD_HEADER] == "7"
    assert headers[MARK_HEADER] != "m"


async def test_refused_copy_is_read_even_if_the_error_says_absent():
    """The first copy may have been done and undone: a create now would do it twice."""
    client = Given(REFUSED % 0)
    client.found = [StoredRecord(None, 0)]

    with pytest.raises(BackendUnavailableError, match="lost"):
        await swap(client, (None, b"2"), attempt=SwapAttempt("m", 4, 5, now(), MARKS), known=StoredRecord(None, 4))


async def test_copy_stored_after_markers_expired_raises():
    client = Given(STORED)
    client.found = [StoredRecord(None, 0)]
    attempt = SwapAttempt("m", 0, 5, now(-7), MARKS._replace(marker_lifetime=7))

    with pytest.raises(BackendUnavailableError, match="too late"):
        await swap(client, (None, b"2"), attempt=attempt)


async def test_copy_refused_by_a_full_server_leaves_the_first_unknown():
    client = Given(FULL)
    client.found = [stored(b"1", 4)]

    with pytest.raises(BackendUnavailableError, match="lost"):
        await swap(client, (b"1", b"2"), attempt=SwapAttempt("m", 4, 5, now(), MARKS))
    with pytest.raises(BackendUnavailableError, match="no room"):
        await swap(Given(FULL), (b"1", b"2"), known=StoredRecord(b"1", 4))


async def test_doubt_starts_with_the_first_copy():
    chain, changes = (
        SwapChain("s", StoredRecord(b"1", 4)),
        ChangeBuilder(Bucket("b"), max_message_bytes=9999, marks=MARKS),
    )
    chain.note_doubt("m", 5, now(), changes)
    first = chain.attempt
    chain.note_doubt("n", 6, now(1), changes)
    assert chain.attempt is first


async def test_value_in_parts_is_not_repeated_after_the_resend_window():
    client = Given(b"")  # the reply to the first part; the others are not sent
    attempt = SwapAttempt("m", 4, 5, now(), MARKS._replace(resend_window=0.05))
    client.found = [stored(b"1", 4), stored(b"1", 4)]
    answer = client.request_many

    async def slow(messages, **options):
        await asyncio.sleep(max(0.0, attempt.until - now()))
        return await answer(messages, **options)

    client.request_many = slow
    with pytest.raises(BackendUnavailableError, match="lost"):
        await swap(client, (b"1", b"x" * 9000), attempt=attempt, max_message_bytes=8192)
    assert len(client.asked) == 1


async def test_value_in_parts_that_was_not_sent_is_not_read():
    failed = BackendUnavailableError("no way", remedy="None.")
    client = Given(failed)
    client.found = [stored(b"1", 4)]

    with pytest.raises(BackendUnavailableError, match="no way"):
        await swap(client, (b"1", b"x" * 9000), max_message_bytes=8192)


async def test_copy_too_large_for_another_server_leaves_the_first_unknown():
    client = Given()
    client.connector.max_payload = 10
    message, resends = Request("s", b"x" * 100), GuardedResends(10)
    with pytest.raises(BackendError, match="not sent"):
        client._check_sizes([message], resends)
    resends.since[0] = now()
    with pytest.raises(NoReplyError):
        client._check_sizes([message], resends)
