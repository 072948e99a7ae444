"""What a record tells of a change that may have been done."""

import asyncio

import pytest

from brrr_nats.attempts import Attempt
from brrr_nats.copies import Copies
from brrr_nats.failures import Lost
from brrr_nats.marks import Marks
from brrr_nats.revisions import Stored


async def test_after_markers_have_ended_nothing_is_told_from_what_was_absent():
    ago = asyncio.get_running_loop().time() - 21
    create = Attempt("m", 0, 3, ago, Marks.new(20, 10))
    assert create.late
    for found in (
        Stored(None, 0),
        Stored(b"x", 9, None, b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 0\r\n\r\n"),
    ):
        with pytest.raises(Lost):
            create.is_over(found)
    assert create.is_over(Stored(b"x", 3))  # it was there before
    assert not Attempt("m", 7, 3, ago, Marks.new(20, 10)).late  # no other revision ever comes back


async def test_copies_are_sent_for_as_long_as_after_the_first_of_them_all():
    copies = Copies(10)
    assert not copies.doubtful
    copies.since[3] = 100.0
    assert (copies.until, copies.doubtful) == (110, True)
    assert (Copies(10, 105).until, Copies(10, 105).doubtful) == (105, True)
