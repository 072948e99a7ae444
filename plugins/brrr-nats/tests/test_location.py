"""URLs and options: servers and logins."""

import pytest

from brrr_core import open_backend
from brrr_core.backend import Secret, parse_url
from brrr_core.errors import OptionError, UrlError
from brrr_nats.location import location_of
from brrr_nats.options import NatsOptions


def read(url, **options):
    return location_of(parse_url(url).url, NatsOptions(**options))


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("nats://localhost", "localhost:4222"),
        ("nats://a.example:4333,b.example", "a.example:4333,b.example:4222"),
        ("nats://[::1]:4333", "[::1]:4333"),
        ("nats://", "localhost:4222"),
    ],
)
def test_hosts_name_the_servers(url, servers):
    assert str(read(url)) == servers


def test_user_and_password_are_a_login():
    location = read("nats://me:pw@localhost")

    assert (location.username, location.password, location.token) == ("me", Secret("pw"), None)
    assert "pw" not in repr(location)
    assert "me" not in str(location)


def test_user_without_password_is_a_token():
    location = read("nats://s3cret@localhost")

    assert (location.username, location.token) == (None, Secret("s3cret"))
    assert "s3cret" not in repr(location)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("nats://localhost/brrr", UrlError),
        ("nats://me:pw@localhost?creds=me.creds", OptionError),
        ("nats://localhost?creds=me.creds&nkey_seed_file=me.nk", OptionError),
        ("nats://token@localhost?token=other", OptionError),
        ("nats://localhost?ca=ca.pem", OptionError),
        ("nats://localhost?verify=false", OptionError),
        ("nats://localhost?tls=true&key=me.key", OptionError),
        ("nats://localhost?replicas=2", OptionError),
        ("nats://localhost?lease=0s", OptionError),
        ("nats://localhost?stream=a.b", OptionError),
        ("nats://localhost?stream=", OptionError),
        ("nats://localhost?bucket=a%20b", OptionError),
        ("nats://localhost?domain=*", OptionError),
        ("nats://localhost?inbox=_INBOX.%3E", OptionError),
        ("nats://localhost?ttl=10ms", OptionError),
        ("nats://localhost?ttl=10m", OptionError),
        ("nats://localhost?stream=a-dead", OptionError),  # is the stream for dead letters of `a`
        ("nats://localhost?stream=a-counters", OptionError),  # is the stream for counters of the bucket `a`
        ("nats://localhost?stream=KV_a", OptionError),  # is the stream of the bucket `a`
        (
            "nats://localhost?bucket=KV_a",
            OptionError,
        ),  # `KV_a-counters` would be the records of the bucket `a-counters`
    ],
)
def test_invalid_url_or_option_is_refused_with_a_remedy(url, error):
    with pytest.raises(error) as caught:
        open_backend(url)

    assert caught.value.remedy


@pytest.mark.parametrize("option", ["ca=ca.pem", "cert=me.pem&key=me.key", "verify=false", "tls_first=true"])
def test_tls_options_are_accepted_with_tls(option):
    open_backend(f"nats://localhost?tls=true&{option}")
