"""Keys: all keys of a topic have one slot, and no two topics share a key."""

import pytest

from brrr_core.backend import Key
from brrr_core.errors import ArgumentError, OptionError
from brrr_redis.client.slots import slot_of, tag_of
from brrr_redis.layout import Layout
from brrr_redis.options import RedisOptions

HOSTILE = [
    *("a", "{a}", "{a}b", "{a}c", "b{a}", "{}", "{}a", "{a", "a}", "}{", "}a{", "{{a}}", "{{a}", "{a}}", "a{}b{c}"),
    *(
        "☃",
        "{☃}",
        "}☃",
        " ",
        "a b",
        "a\0b",
        "a\nb",
        "*",
        ":",
        "inbox",
        "a:inbox",
        "brrr",
        "brrr:",
        "x" * 1000,
        "}" * 1000,
    ),
]


@pytest.mark.parametrize("topic", HOSTILE)
@pytest.mark.parametrize("prefix", ["", "app:", "a}", "{app}:"])
def test_all_keys_of_a_topic_are_in_its_slot(whole_cluster, topic, prefix):
    keys = Layout(prefix).topic(topic)

    assert keys.ready == (f"brrr:prefix:{len(prefix)}:{prefix}:{topic}" if prefix else topic).encode()
    slots = {whole_cluster.servers[0].do("CLUSTER", "KEYSLOT", key) for key in keys}
    assert slots == {slot_of(keys.ready)}


@pytest.mark.parametrize("prefix", ["", "app:", "{app}:"])
def test_no_two_topics_share_a_key(prefix):
    layout = Layout(prefix)
    keys = [key for topic in HOSTILE for key in layout.topic(topic)]

    assert len(set(keys)) == len(keys)


PREFIXES = ["", "a", "ab", "a:", "a:b", ":", "1:a", "brrr:", "brrr:prefix:1:a:", "{a}", "{a}b", "a}"]


def test_no_two_prefixes_share_a_key():
    """Prefix `a` with topic `bX`, and prefix `ab` with topic `X`, have different lists."""
    names = [*HOSTILE, "bX", "X", "1:a:X", "b:X", ":b:X"]
    keys = []
    for layout in map(Layout, PREFIXES):
        keys += [key for name in names for key in layout.topic(name)]
        keys += [layout.record(Key(kind, name)) for kind in ("call", "value", "pending_returns") for name in names]
        keys += [layout.counter(prefix + name) for prefix in ("", "brrr_count/") for name in names]

    assert len(set(keys)) == len(keys)


def test_keys_without_a_prefix_are_those_of_the_protocol():
    layout = Layout("")

    assert layout.topic("jobs").ready == b"jobs"
    assert layout.record(Key("value", "h")) == b"brrr:value:h"
    assert layout.counter("brrr_count/root") == b"brrr_count/root"


def test_hash_tag_has_the_slot_of_the_topic():
    for topic in HOSTILE:
        key = topic.encode()
        assert b"}" not in tag_of(key)
        assert slot_of(b"{" + tag_of(key) + b"}") == slot_of(key)


@pytest.mark.parametrize(
    "topic",
    [
        *("brrr:{a}:leases", "brrr:call:x", "brrr:value:x", "brrr:pending_returns:x"),
        *("brrr_count/x", "brrr:counter:x", "brrr:prefix:1:a:x"),
    ],
)
def test_topic_that_begins_like_a_key_of_brrr_is_refused(topic):
    with pytest.raises(ArgumentError, match="like a key of brrr"):
        Layout("").topic(topic)


def test_unpaired_surrogate_is_refused():
    with pytest.raises(ArgumentError, match="surrogate"):
        Layout("").topic("\ud800")


@pytest.mark.parametrize("prefix", ["{", "{}", "a{b", "{}x{y"])
def test_prefix_with_an_incomplete_hash_tag_is_refused(prefix):
    with pytest.raises(OptionError, match="incomplete hash tag"):
        RedisOptions(prefix=prefix)


def test_cache_of_topic_keys_is_bounded():
    layout = Layout("")
    for number in range(3000):
        layout.topic(f"t{number}")
    assert len(layout._topics) <= 1024
