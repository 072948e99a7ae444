"""Location in a URL and its options, and the URLs that are refused."""

from dataclasses import dataclass

import pytest

from brrr_aws.location import AwsLocation, parse_location
from brrr_core.backend import parse_url
from brrr_core.errors import OptionError, UrlError


@dataclass(frozen=True)
class Options:
    region: str | None = None
    endpoint: str | None = None
    profile: str | None = None
    session: object | None = None


@pytest.mark.parametrize(
    ("url", "options", "name", "location"),
    [
        ("dynamo://jobs", Options(), "jobs", AwsLocation()),
        ("dynamo://jobs", Options(region="eu-west-1", profile="me"), "jobs", AwsLocation("eu-west-1", None, "me")),
        ("dynamo://jobs/", Options(), "jobs", AwsLocation()),
        ("dynamo:", Options(), "", AwsLocation()),
        (
            "dynamo://jobs",
            Options(endpoint="http://localhost:8000/"),
            "jobs",
            AwsLocation(None, "http://localhost:8000"),
        ),
        ("dynamo://localhost:8000/jobs", Options(), "jobs", AwsLocation(None, "http://localhost:8000")),
        ("dynamo://emulator/jobs", Options(), "jobs", AwsLocation(None, "http://emulator")),
        ("dynamo://localhost:8000", Options(), "", AwsLocation(None, "http://localhost:8000")),
        ("dynamo://[::1]:8000/jobs", Options(), "jobs", AwsLocation(None, "http://[::1]:8000")),
    ],
)
def test_url_and_options_give_name_and_location(url, options, name, location):
    assert parse_location(parse_url(url).url, options) == (name, location)


@pytest.mark.parametrize("login", ["AKIDEXAMPLE", "AKIDEXAMPLE:S3cret"])
def test_url_with_keys_is_refused_without_showing_them(login):
    with pytest.raises(UrlError) as caught:
        parse_location(parse_url(f"dynamo://{login}@jobs").url, Options())

    assert "profile" in caught.value.remedy
    assert "S3cret" not in str(caught.value)
    assert "AKIDEXAMPLE" not in str(caught.value)


@pytest.mark.parametrize("url", ["dynamo://a,b", "dynamo://localhost/a/b", "dynamo:jobs", "dynamo:///jobs"])
def test_malformed_url_is_refused(url):
    with pytest.raises(UrlError) as caught:
        parse_location(parse_url(url).url, Options())

    assert caught.value.remedy


@pytest.mark.parametrize(
    "endpoint",
    [
        *("", "localhost:8000", "ftp://localhost", "http://", "http://S3cret@localhost", "http://a:S3cret@localhost"),
        *("http://localhost/S3cret", "http://localhost?S3cret", "http://localhost#S3cret", "http://localhost:x"),
        *("http://local host", "http://localhost:99999", "http://[::1", "https://\n"),
    ],
)
def test_malformed_endpoint_is_refused_without_showing_it(endpoint):
    with pytest.raises(OptionError) as caught:
        parse_location(parse_url("dynamo://jobs").url, Options(endpoint=endpoint))

    assert caught.value.remedy
    assert "S3cret" not in str(caught.value)


@pytest.mark.parametrize("region", ["", "EU", "eu west", "-eu", "x" * 64, "a.example"])
def test_malformed_region_is_refused(region):
    with pytest.raises(OptionError, match="not a region"):
        parse_location(parse_url("dynamo://jobs").url, Options(region=region))


def test_empty_profile_is_refused():
    with pytest.raises(OptionError, match="not a profile"):
        parse_location(parse_url("dynamo://jobs").url, Options(profile=" "))


def test_two_endpoints_are_refused():
    with pytest.raises(OptionError, match="another"):
        parse_location(parse_url("dynamo://localhost:1/jobs").url, Options(endpoint="http://localhost:2"))
