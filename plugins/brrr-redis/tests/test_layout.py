"""Keys: those of a topic share its slot of a cluster, and no two topics share a key."""

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
    """Prefix `a` with topic `bX` and prefix `ab` with topic `X` are two lists."""
    names = [*HOSTILE, "bX", "X", "1:a:X", "b:X", ":b:X"]
    keys = []
    for layout in map(Layout, PREFIXES):
        keys += [key for name in names for key in layout.topic(name)]
        keys += [layout.record(Key(kind, name)) for kind in ("call", "value", "pending_returns") for name in names]
        keys += [layout.counter(prefix + name) for prefix in ("", "brrr_count/") for name in names]

    assert len(set(keys)) == len(keys)


def test_without_a_prefix_the_keys_are_those_of_the_protocol():
    layout = Layout("")

    assert layout.topic("jobs").ready == b"jobs"
    assert layout.record(Key("value", "h")) == b"brrr:value:h"
    assert layout.counter("brrr_count/root") == b"brrr_count/root"


def test_a_tag_ends_where_the_server_says():
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
def test_names_of_brrr_s_own_keys_are_no_topics(topic):
    with pytest.raises(ArgumentError, match="like a key of brrr"):
        Layout("").topic(topic)


def test_half_a_surrogate_pair_is_told():
    layout = Layout("")
    for make in (lambda: layout.topic("\ud800"), lambda: layout.record(Key("call", "\ud800"))):
        with pytest.raises(ArgumentError, match="surrogate"):
            make()


@pytest.mark.parametrize("prefix", ["{", "{}", "a{b", "{}x{y"])
def test_a_prefix_with_half_a_hash_tag_is_refused(prefix):
    with pytest.raises(OptionError, match="incomplete hash tag"):
        RedisOptions(prefix=prefix)


def test_many_topics_are_not_kept_for_ever():
    layout = Layout("")
    for number in range(3000):
        layout.topic(f"t{number}")
    assert len(layout._topics) <= 1024
