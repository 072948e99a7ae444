"""Names of queues: any topic has two of its own, that SQS allows."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import brrr_core as brrr
from brrr_core.errors import ArgumentError, UrlError
from brrr_sqs.names import LONGEST_PREFIX, names_of

ALLOWED = re.compile(r"[A-Za-z0-9_-]{1,80}")
TOPICS = st.one_of(
    st.text(st.characters(), min_size=1, max_size=40),
    st.text("ab_x-0 5f", min_size=1, max_size=60),
    st.text(min_size=1),
)


def topic_of(escaped):
    """The topic that an escaped one is, where it was not cut."""
    return re.sub(
        r"(?:_x[0-9a-f]{2})+",
        lambda found: bytes.fromhex(found[0].replace("_x", "")).decode(errors="surrogatepass"),
        escaped,
    )


@given(TOPICS)
def test_a_name_is_allowed_and_holds_its_topic(topic):
    main, dead = names_of("jobs-2", topic)

    assert ALLOWED.fullmatch(main)
    assert ALLOWED.fullmatch(dead)
    prefix, escaped = main.split("__", 1)
    assert prefix == "jobs-2"
    assert "__" in escaped or topic_of(escaped) == topic


@given(st.lists(TOPICS, unique=True, min_size=2, max_size=30), st.sampled_from(["a", "a-b", "a_b"]))
def test_no_two_topics_share_a_queue(topics, prefix):
    names = [name for topic in topics for name in names_of(prefix, topic)]

    assert len(set(names)) == 2 * len(topics)


def test_prefixes_keep_apart():
    topics = ["b", "_b", "b_", "__b", "dead", "b__dead", "_x5f", "a__b"]
    names = [name for prefix in ("a", "a-", "a_a", "a-b") for topic in topics for name in names_of(prefix, topic)]

    assert len(set(names)) == len(names)


def test_a_plain_topic_is_readable():
    assert names_of("jobs", "mail_out-2") == ("jobs__mail_out-2", "jobs__mail_out-2__dead")
    assert names_of("jobs", "a/b") == ("jobs__a_x2fb", "jobs__a_x2fb__dead")


def test_a_long_topic_has_its_beginning_and_a_hash():
    one, other = names_of("jobs", "x" * 999 + "a"), names_of("jobs", "x" * 999 + "b")

    assert one != other
    assert one.main.startswith("jobs__xxxxx")
    assert len(one.dead) <= 80


def test_the_empty_topic_is_refused():
    with pytest.raises(ArgumentError):
        names_of("jobs", "")


@pytest.mark.parametrize("prefix", ["a__b", "_a", "a_", "a.b", "a" * (LONGEST_PREFIX + 1), "a%20b"])
def test_a_prefix_that_no_queue_can_have_is_refused(prefix):
    with pytest.raises(UrlError, match="is no prefix of queues"):
        brrr.open_backend(f"sqs://localhost:1/{prefix}")
