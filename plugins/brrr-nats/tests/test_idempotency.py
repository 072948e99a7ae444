"""What is made of a change that may have been done: by what the record tells, and by what copies are answered.

No server is asked: what servers answer is given, one answer at a time.
"""

import asyncio
from itertools import count

import pytest

from brrr_core.errors import BackendError, BackendUnavailableError
from brrr_core.plugins import parse_url
from brrr_nats.client.errors import Lost
from brrr_nats.client.protocol import Reply, Request
from brrr_nats.client.request_batch import Copies
from brrr_nats.client.requests import Link
from brrr_nats.location import location_of
from brrr_nats.options import NatsOptions
from brrr_nats.store.idempotency import GUARD, MARK, Attempt, Marks, guard_of
from brrr_nats.store.keys import Bucket
from brrr_nats.store.revisions import Stored
from brrr_nats.store.swaps import Chain, Change, perform
from brrr_nats.store.writes import Changes

MARKS = Marks("p", count(1), 20, 10)
STORED = b'{"stream":"s", "seq":9}'
REFUSED = b'{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: %d"}}'
FULL = b'{"error":{"code":400,"err_code":10047,"description":"insufficient storage"}}'


def now(seconds=0.0):
    return asyncio.get_running_loop().time() + seconds


def stored(value, revision, *, guard=None, mark=None):
    lines = "".join(f"{name}: {each}\r\n" for name, each in ((GUARD, guard), (MARK, mark)) if each is not None)
    return Stored(value, revision, None, f"NATS/1.0\r\n{lines}\r\n".encode())


class Given(Link):
    """Gives answers in turn, and keeps what was asked."""

    def __init__(self, *answers):
        options = NatsOptions()
        super().__init__(location_of(parse_url("nats://h").url, options), options)
        self.answers, self.asked, self.copies, self.found, self.seen = [*answers], [], [], [], 5

    async def request_many(self, messages, *, copies=None, **_):
        if not messages:
            return []
        self.asked.append([message.headers for message in messages])
        self.copies.append(copies)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [Reply(answer)] * len(messages)

    async def find(self, subjects):
        """As `Records` do."""
        return [self.found.pop(0) for _ in subjects]


async def swap(link, *changes, attempt=None, known=None, room=100_000):
    """The results of changes of one record, and its chain."""
    chain, results = Chain("s", known), [False] * len(changes)
    chain.attempt = attempt
    chain.changes += [Change(place, old, new) for place, (old, new) in enumerate(changes)]
    made = Changes(Bucket("b"), room=room, marks=MARKS)
    await perform([chain], results, link=link, records=link, changes=lambda: made)
    assert not link.answers
    assert not link.found
    return results, chain


async def test_after_markers_have_ended_nothing_is_told_from_what_was_absent():
    create = Attempt("m", 0, 3, now(-21), MARKS)
    assert create.late
    for found in (Stored(None, 0), stored(b"x", 9, guard=0)):
        with pytest.raises(Lost):
            create.is_over(found)
    assert create.is_over(Stored(b"x", 3))  # it was there before
    assert not Attempt("m", 7, 3, now(-21), MARKS).late  # no other revision ever comes back


async def test_copies_are_sent_for_as_long_as_after_the_first_of_them_all():
    copies = Copies(10)
    assert not copies.doubtful
    copies.since[3] = 100.0
    assert (copies.until, copies.doubtful) == (110, True)
    assert (Copies(10, 105).until, Copies(10, 105).doubtful) == (105, True)


async def test_a_guard_of_another_subject_tells_nothing():
    assert guard_of(stored(b"x", 9, guard=3)) == 3
    assert (
        guard_of(Stored(b"x", 9, None, b"NATS/1.0\r\n%b: 3\r\n%b-Subject: t\r\n\r\n" % ((GUARD.encode(),) * 2))) is None
    )


async def test_a_copy_is_the_same_message_and_is_sent_no_longer_than_the_first():
    attempt, link = Attempt("m", 4, 5, now(-7), MARKS), Given(STORED)
    link.found = [stored(b"1", 4)]

    results, chain = await swap(link, (b"1", b"2"), attempt=attempt)

    assert (results, link.asked) == ([True], [[{GUARD: "4", MARK: "m"}]])
    assert link.copies[0].until == attempt.until
    assert chain.attempt is None


async def test_the_next_change_of_the_record_has_a_mark_of_its_own():
    link = Given(STORED, STORED)
    link.found = [stored(b"2", 8, guard=4, mark="m")]

    results, chain = await swap(
        link, (b"1", b"2"), (b"2", b"3"), (b"3", b"4"), attempt=Attempt("m", 4, 5, now(), MARKS)
    )

    assert results == [True] * 3
    assert [headers[GUARD] for (headers,) in link.asked] == ["8", "9"]
    assert len({"m", *(headers[MARK] for (headers,) in link.asked)}) == 3
    assert chain.attempt is None


async def test_one_that_is_over_is_begun_anew_under_another_mark():
    link = Given(STORED)
    link.found = [stored(b"1", 7, guard=4, mark="other")]

    results, _ = await swap(link, (b"1", b"2"), attempt=Attempt("m", 4, 5, now(), MARKS))

    ((headers,),) = link.asked
    assert results == [True]
    assert headers[GUARD] == "7"
    assert headers[MARK] != "m"


async def test_a_refused_copy_is_looked_up_even_where_nothing_is_said_to_be_there():
    """It may have been done, and undone: to create it now would do it twice."""
    link = Given(REFUSED % 0)
    link.found = [Stored(None, 0)]

    with pytest.raises(BackendUnavailableError, match="lost"):
        await swap(link, (None, b"2"), attempt=Attempt("m", 4, 5, now(), MARKS), known=Stored(None, 4))


async def test_a_copy_that_is_stored_when_markers_have_ended_may_be_the_second():
    link = Given(STORED)
    link.found = [Stored(None, 0)]
    attempt = Attempt("m", 0, 5, now(-7), MARKS._replace(settled=7))

    with pytest.raises(BackendUnavailableError, match="too late"):
        await swap(link, (None, b"2"), attempt=attempt)


async def test_a_copy_that_finds_no_room_tells_nothing_of_the_first():
    link = Given(FULL)
    link.found = [stored(b"1", 4)]

    with pytest.raises(BackendUnavailableError, match="lost"):
        await swap(link, (b"1", b"2"), attempt=Attempt("m", 4, 5, now(), MARKS))
    with pytest.raises(BackendUnavailableError, match="no room"):
        await swap(Given(FULL), (b"1", b"2"), known=Stored(b"1", 4))


async def test_doubts_are_of_the_first_copy():
    chain, changes = Chain("s", Stored(b"1", 4)), Changes(Bucket("b"), room=9999, marks=MARKS)
    chain.doubt("m", 5, now(), changes)
    first = chain.attempt
    chain.doubt("n", 6, now(1), changes)
    assert chain.attempt is first


async def test_a_value_in_parts_is_not_put_again_when_it_is_too_late():
    link = Given(b"")  # to the first part; the others are not sent
    attempt = Attempt("m", 4, 5, now(), MARKS._replace(patience=0.05))
    link.found = [stored(b"1", 4), stored(b"1", 4)]
    answer = link.request_many

    async def slow(messages, **options):
        await asyncio.sleep(max(0.0, attempt.until - now()))
        return await answer(messages, **options)

    link.request_many = slow
    with pytest.raises(BackendUnavailableError, match="lost"):
        await swap(link, (b"1", b"x" * 9000), attempt=attempt, room=8192)
    assert len(link.asked) == 1


async def test_a_value_in_parts_that_was_not_sent_is_not_looked_for():
    failed = BackendUnavailableError("no way", remedy="None.")
    link = Given(failed)
    link.found = [stored(b"1", 4)]

    with pytest.raises(BackendUnavailableError, match="no way"):
        await swap(link, (b"1", b"x" * 9000), room=8192)


async def test_a_copy_that_another_server_would_not_take_tells_nothing_of_the_first():
    link = Given()
    link.line.max_payload = 10
    message, copies = Request("s", b"x" * 100), Copies(10)
    with pytest.raises(BackendError, match="not sent"):
        link._check_sizes([message], copies)
    copies.since[0] = now()
    with pytest.raises(Lost):
        link._check_sizes([message], copies)
