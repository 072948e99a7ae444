"""Names of queues: every topic has two valid names of its own."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brrr_core as brrr
from brrr_core.errors import ArgumentError, UrlError
from brrr_sqs import queues
from brrr_sqs.queues import MAX_PREFIX_CHARS, names_of

ALLOWED = re.compile(r"[A-Za-z0-9_-]{1,80}")
TOPICS = st.one_of(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=200),
    st.text("ab_x-0 5f", min_size=1, max_size=60),
)


@settings(deadline=None)
@given(TOPICS)
def test_name_is_valid_and_contains_the_topic(topic: str) -> None:
    main, dead = names_of("jobs-2", topic)

    assert ALLOWED.fullmatch(main)
    assert ALLOWED.fullmatch(dead)
    prefix, escaped = main.split("__", 1)
    assert prefix == "jobs-2"
    assert queues.TOPICS.unescape(escaped) in {topic, None}


@settings(deadline=None)
@given(st.lists(TOPICS, unique=True, min_size=2, max_size=30), st.sampled_from(["a", "a-b", "a_b"]))
def test_different_topics_never_share_a_queue(topics: Any, prefix: str) -> None:
    names = [name for topic in topics for name in names_of(prefix, topic)]

    assert len(set(names)) == 2 * len(topics)


def test_different_prefixes_never_share_a_queue() -> None:
    topics = ["b", "_b", "b_", "__b", "dead", "b__dead", "_x5f", "a__b"]
    names = [name for prefix in ("a", "a-", "a_a", "a-b") for topic in topics for name in names_of(prefix, topic)]

    assert len(set(names)) == len(names)


def test_plain_topic_is_readable_in_the_name() -> None:
    assert names_of("jobs", "mail_out-2") == ("jobs__mail_out-2", "jobs__mail_out-2__dead")
    assert names_of("jobs", "a/b") == ("jobs__a_x2fb", "jobs__a_x2fb__dead")


def test_long_topic_is_cut_and_gets_a_hash() -> None:
    one, other = names_of("jobs", "x" * 999 + "a"), names_of("jobs", "x" * 999 + "b")

    assert one != other
    assert one.main.startswith("jobs__xxxxx")
    assert len(one.dead) <= 80


def test_empty_topic_is_refused() -> None:
    with pytest.raises(ArgumentError):
        names_of("jobs", "")


@pytest.mark.parametrize("prefix", ["a__b", "_a", "a_", "a.b", "a" * (MAX_PREFIX_CHARS + 1), "a%20b"])
def test_malformed_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(UrlError, match="is not a queue prefix"):
        brrr.open_backend(f"sqs://localhost:1/{prefix}")
