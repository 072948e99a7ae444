"""What a URL says about where to go, and what has no place in it."""

from dataclasses import dataclass

import pytest

from brrr_aws.place import AwsPlace, place_of
from brrr_core.errors import OptionError, UrlError
from brrr_core.plugins import parse_url


@dataclass(frozen=True)
class Options:
    region: str | None = None
    endpoint: str | None = None
    profile: str | None = None


@pytest.mark.parametrize(
    ("url", "options", "name", "place"),
    [
        ("dynamo://jobs", Options(), "jobs", AwsPlace()),
        ("dynamo://jobs", Options(region="eu-west-1", profile="me"), "jobs", AwsPlace("eu-west-1", None, "me")),
        ("dynamo://jobs/", Options(), "jobs", AwsPlace()),
        ("dynamo:", Options(), "", AwsPlace()),
        ("dynamo://jobs", Options(endpoint="http://localhost:8000/"), "jobs", AwsPlace(None, "http://localhost:8000")),
        ("dynamo://localhost:8000/jobs", Options(), "jobs", AwsPlace(None, "http://localhost:8000")),
        ("dynamo://emulator/jobs", Options(), "jobs", AwsPlace(None, "http://emulator")),
        ("dynamo://localhost:8000", Options(), "", AwsPlace(None, "http://localhost:8000")),
        ("dynamo://[::1]:8000/jobs", Options(), "jobs", AwsPlace(None, "http://[::1]:8000")),
    ],
)
def test_a_place(url, options, name, place):
    assert place_of(parse_url(url).url, options) == (name, place)


@pytest.mark.parametrize("login", ["AKIDEXAMPLE", "AKIDEXAMPLE:S3cret"])
def test_keys_have_no_place_in_a_url(login):
    with pytest.raises(UrlError) as caught:
        place_of(parse_url(f"dynamo://{login}@jobs").url, Options())

    assert "profile" in caught.value.remedy
    assert "S3cret" not in str(caught.value)
    assert "AKIDEXAMPLE" not in str(caught.value)


@pytest.mark.parametrize("url", ["dynamo://a,b", "dynamo://localhost/a/b", "dynamo:jobs", "dynamo:///jobs"])
def test_a_url_that_names_nothing_or_too_much(url):
    with pytest.raises(UrlError) as caught:
        place_of(parse_url(url).url, Options())

    assert caught.value.remedy


@pytest.mark.parametrize(
    "endpoint",
    [
        *("", "localhost:8000", "ftp://localhost", "http://", "http://S3cret@localhost", "http://a:S3cret@localhost"),
        *("http://localhost/S3cret", "http://localhost?S3cret", "http://localhost#S3cret", "http://localhost:x"),
        *("http://local host", "http://localhost:99999", "http://[::1", "https://\n"),
    ],
)
def test_an_endpoint_that_is_no_plain_address_is_refused_and_not_shown(endpoint):
    with pytest.raises(OptionError) as caught:
        place_of(parse_url("dynamo://jobs").url, Options(endpoint=endpoint))

    assert caught.value.remedy
    assert "S3cret" not in str(caught.value)


@pytest.mark.parametrize("region", ["", "EU", "eu west", "-eu", "x" * 64, "a.example"])
def test_what_is_no_region(region):
    with pytest.raises(OptionError, match="no region"):
        place_of(parse_url("dynamo://jobs").url, Options(region=region))


def test_what_is_no_profile():
    with pytest.raises(OptionError, match="no profile"):
        place_of(parse_url("dynamo://jobs").url, Options(profile=" "))


def test_an_endpoint_is_named_once():
    with pytest.raises(OptionError, match="another"):
        place_of(parse_url("dynamo://localhost:1/jobs").url, Options(endpoint="http://localhost:2"))
