"""URLs and options: valid and invalid forms."""

import pytest

import brrr_core as brrr
from brrr_core.backend import parse_url
from brrr_core.errors import BrrrError, OptionError, UrlError
from brrr_redis.location import Address, Location, Topology, parse_location
from brrr_redis.options import RedisOptions


def read(url, **options):
    return parse_location(parse_url(url).url, RedisOptions(**options))


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("redis://localhost", {}, Location(Topology.SINGLE, (Address("localhost", 6379),), "", 0, False)),
        ("redis://", {}, Location(Topology.SINGLE, (Address("localhost", 6379),), "", 0, False)),
        ("redis://u:p@h:1/3", {}, Location(Topology.SINGLE, (Address("h", 1),), "", 3, False)),
        ("redis://h?db=3", {"db": 3}, Location(Topology.SINGLE, (Address("h", 6379),), "", 3, False)),
        ("redis://[::1]:7", {}, Location(Topology.SINGLE, (Address("::1", 7),), "", 0, False)),
        ("valkey://h", {}, Location(Topology.SINGLE, (Address("h", 6379),), "", 0, False)),
        ("rediss://h", {}, Location(Topology.SINGLE, (Address("h", 6379),), "", 0, True)),
        ("valkey://h", {"tls": True}, Location(Topology.SINGLE, (Address("h", 6379),), "", 0, True)),
        ("redis+unix:///run/r.sock", {"db": 2}, Location(Topology.SINGLE, (Address("/run/r.sock", 0),), "", 2, False)),
        ("redis+cluster://a,b:2", {}, Location(Topology.CLUSTER, (Address("a", 6379), Address("b", 2)), "", 0, False)),
        ("redis+cluster://a", {"tls": True}, Location(Topology.CLUSTER, (Address("a", 6379),), "", 0, True)),
        (
            "redis+sentinel://a,b:2/jobs",
            {},
            Location(Topology.SENTINEL, (Address("a", 26379), Address("b", 2)), "jobs", 0, False),
        ),
        ("redis+sentinel://a/jobs/4", {}, Location(Topology.SENTINEL, (Address("a", 26379),), "jobs", 4, False)),
    ],
)
def test_url_names_its_servers(url, options, expected):
    assert read(url, **options) == expected


@pytest.mark.parametrize(
    ("url", "options", "kind", "message"),
    [
        ("redis://a,b", {}, UrlError, "several hosts"),
        ("redis://h/x", {}, UrlError, "not a number"),
        ("redis://h/1/2", {}, UrlError, "not a number"),
        ("redis://h/1", {"db": 2}, OptionError, "database 1, and the option db names 2"),
        ("redis+unix://", {}, UrlError, "no socket"),
        ("redis+unix://h/run/r.sock", {}, UrlError, "no socket"),
        ("redis+unix:///r.sock", {"tls": True}, OptionError, "has no TLS"),
        ("redis+cluster://a/1", {}, UrlError, "database 1"),
        ("redis+sentinel://a", {}, UrlError, "no service"),
        ("redis+sentinel:///jobs", {}, UrlError, "no service"),
        ("redis://h", {"ca": "ca.pem"}, OptionError, "no effect: ca"),
        ("redis://h", {"verify": False}, OptionError, "no effect: verify"),
        ("rediss://h", {"key": "key.pem"}, OptionError, "`key` is set without `cert`"),
    ],
)
def test_invalid_url_is_refused(url, options, kind, message):
    with pytest.raises(kind, match=message) as caught:
        read(url, **options)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "options",
    [
        {"lease": 0},
        {"ttl": "0s"},
        {"ttl": "2s"},
        {"ttl": "1h", "lease": "2m"},
        {"eviction": "perhaps"},
        {"sweep": "4000d"},
        {"db": -1},
        {"prefix": "ä"},
    ],
)
def test_invalid_option_is_refused(options):
    with pytest.raises(BrrrError, match=next(iter(options))):
        brrr.open_backend("redis://localhost", **options)
