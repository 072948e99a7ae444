"""Names of records in a bucket."""

import re
import string

import pytest

from brrr_core.backend import Key
from brrr_nats.names import Bucket

BUCKET = Bucket("jobs")


def test_record_key_is_valid_for_nats_tools():
    subject = BUCKET.subject(Key("value", string.printable[:95] * 3))

    assert subject.startswith("$KV.jobs.value.")
    assert re.fullmatch(r"[-/_=.a-zA-Z0-9]+", subject.removeprefix("$KV.jobs."))
    assert BUCKET.subject(Key("call", "c0ffee-1_A")) == "$KV.jobs.call.c0ffee-1_A"


@pytest.mark.parametrize("call_hash", ["", ".", "a.b", "*", ">", " ", "a b", "x" * 5000, "=" * 200])
def test_every_hash_is_one_token_of_a_subject(call_hash):
    *begin, token = BUCKET.subject(Key("call", call_hash)).split(".")

    assert begin == ["$KV", "jobs", "call"]
    assert token
    assert not set(token) & set("*> \t")
    assert len(token) < 200


def test_different_hashes_have_different_subjects():
    hashes = [*string.printable, "", "a=b", "a=3db", "a=3Db", "==", *("x" * 119 + each for each in "ab=."), "x" * 999]
    hashes += ["x" * 1000, "x" * 999 + "y"]

    assert len({BUCKET.subject(Key("call", each)) for each in hashes}) == len(hashes)


def test_part_subject_names_its_record():
    subject = BUCKET.subject(Key("pending_returns", "a.b"))
    part = BUCKET.part(subject, "c0ffee", 17)

    assert part.startswith("$KV.jobs.part.")
    assert BUCKET.owner_of(part) == (subject, "c0ffee")
