"""Options are typed, from a URL as from keywords, and errors never show secrets."""

import math
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brrr_core.backend.options import Duration, Secret, Size
from brrr_core.errors import OptionError
from brrr_core.plugins.options import fields_of, read_options

HALF_A_MINUTE = Duration(30)
BYTE = Size(1)


class Mode(Enum):
    FAST = "fast"
    SAFE = "safe"


@dataclass(frozen=True)
class Schema:
    text: str = ""
    count: int = 1
    ratio: float = 0.5
    tls: bool = False
    level: Literal["off", "on"] = "off"
    width: Literal[1, 2] = 1
    mode: Mode = Mode.SAFE
    lease: Duration = HALF_A_MINUTE
    max_body: Size = BYTE
    api_key: Secret | None = None
    limit: int | None = 5
    label: str | None = None


@dataclass(frozen=True)
class Needy:
    region: str
    token: Secret = field(default=Secret(""))


@dataclass(frozen=True)
class Login:
    password: Secret | None = None


@dataclass(frozen=True)
class Given:
    client: object | None = None


@dataclass(frozen=True)
class Pair:
    low: int = 0
    high: int = 9

    def __post_init__(self):
        if self.low > self.high:
            raise ValueError(f"low is {self.low} and high is {self.high}")


def read(schema: type = Schema, query: str = "", environ: Any = None, **keywords: object) -> Any:
    pairs = [tuple(pair.split("=", 1)) for pair in query.split("&") if pair]
    return read_options("x", schema, [(n, Secret(v)) for n, v in pairs], keywords, environ=environ or {})


def refusal(*args, **keywords):
    with pytest.raises(OptionError, match="BRRR-URL-02") as caught:
        read(*args, **keywords)
    assert "x:" in caught.value.what
    return caught.value


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("text", "a b", "a b"),
        ("text", "5", "5"),
        ("count", "-3", -3),
        ("ratio", "2", 2.0),
        ("tls", "true", True),
        ("tls", "1", True),
        ("tls", "FALSE", False),
        ("level", "on", "on"),
        ("width", "2", 2),
        ("mode", "fast", Mode.FAST),
        ("lease", "250ms", Duration(0.25)),
        ("lease", "30s", Duration(30)),
        ("lease", "1.5m", Duration(90)),
        ("lease", "2h", Duration(7200)),
        ("lease", "1d", Duration(86400)),
        ("lease", "7", Duration(7)),
        ("max_body", "64KiB", Size(65536)),
        ("max_body", "16MiB", Size(16 * 2**20)),
        ("max_body", "2GB", Size(2 * 10**9)),
        ("max_body", "1.5kib", Size(1536)),
        ("max_body", "12B", Size(12)),
        ("max_body", "12", Size(12)),
        ("limit", "7", 7),
        ("limit", "none", None),
        ("label", "none", "none"),
        ("api_key", "s3cret", Secret("s3cret")),
    ],
)
def test_text_from_url_or_keyword_is_converted_to_schema_type(name, text, value):
    from_url = getattr(read(query=f"{name}={text}").options, name)
    from_keyword = getattr(read(**{name: text}).options, name)
    assert (from_url, type(from_url)) == (value, type(value))
    assert (from_keyword, type(from_keyword)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("count", 3, 3),
        ("ratio", 3, 3.0),
        ("tls", True, True),
        ("mode", Mode.FAST, Mode.FAST),
        ("lease", 30, Duration(30)),
        ("lease", 0.5, Duration(0.5)),
        ("lease", Duration(2), Duration(2)),
        ("max_body", 5, Size(5)),
        ("api_key", Secret("k"), Secret("k")),
        ("limit", None, None),
        ("label", None, None),
    ],
)
def test_keyword_can_have_the_typed_value(name, given, value):
    read_value = getattr(read(**{name: given}).options, name)
    assert (read_value, type(read_value)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("text", 5),
        ("text", None),
        ("count", "1_000"),
        ("count", "1.5"),
        ("count", "9" * 5000),
        ("count", True),
        ("ratio", "nan"),
        ("ratio", "inf"),
        ("ratio", math.inf),
        ("tls", "yes"),
        ("tls", 5),
        ("level", "ON"),
        ("width", "3"),
        ("mode", "FAST"),
        ("lease", "30x"),
        ("lease", "30 s"),
        ("lease", "-1s"),
        ("lease", "1e3"),
        ("lease", "nan"),
        ("lease", ""),
        ("lease", "\uff19s"),
        ("lease", -1),
        ("lease", Duration(-1)),
        ("lease", math.nan),
        ("lease", math.inf),
        ("lease", True),
        ("lease", [30]),
        ("max_body", "-5"),
        ("max_body", -5),
        ("max_body", Size(-5)),
        ("max_body", 1.0),
        ("max_body", "0.1KiB"),
        ("max_body", "12MM"),
        ("max_body", "i"),
        ("max_body", True),
        ("limit", "null!"),
        ("count", Secret("5")),
    ],
)
def test_error_for_value_of_wrong_type_shows_an_example(name, given):
    error = refusal(**{name: given})
    assert f"{name!r}" in error.what
    assert f"{name}=" in error.remedy
    assert len(str(error)) < 400


def test_error_shows_refused_value():
    error = refusal(query="lease=30x")
    assert "'30x', which is not a duration" in error.what
    assert "lease=30s" in error.remedy


def test_error_shows_choices():
    assert "one of off, on" in refusal(query="level=max").what
    assert "one of fast, safe" in refusal(query="mode=max").what


@pytest.mark.parametrize("written", ["max-body", "max_body"])
def test_dashes_and_underscores_are_equivalent(written):
    assert read(query=f"{written}=7").options.max_body == 7


@pytest.mark.parametrize("written", ["leese", "Lease", "max-bodie"])
def test_error_for_unknown_option_names_nearest_and_all_valid_options_but_not_its_value(written):
    error = refusal(query=f"{written}=s3cret")
    assert f"no option {written!r}" in error.what
    assert "Did you mean 'lease'?" in error.remedy or "Did you mean 'max_body'?" in error.remedy
    assert all(name in error.remedy for name in [*fields_of(Schema), "api_key_env", "password_env"])
    assert "s3cret" not in str(error)


def test_unknown_option_unlike_any_other_gets_no_suggestion():
    assert "Did you mean" not in refusal(query="qqqqqq=1").remedy


@pytest.mark.parametrize(
    ("query", "keywords"),
    [
        ("count=1&count=2", {}),
        ("max-body=1&max_body=2", {}),
        ("count=1", {"count": 1}),
        ("max-body=1", {"max_body": 1}),
    ],
)
def test_repeated_option_is_refused(query, keywords):
    assert "twice" in refusal(query=query, **keywords).what


def test_error_names_missing_option():
    error = refusal(Needy)
    assert "needs the option 'region'" in error.what
    assert "region=" in error.remedy


@pytest.mark.parametrize("key", [5, b"s3cret", ["s3cret"]])
def test_error_never_shows_secret_of_wrong_type(key):
    error = refusal(api_key=key)
    assert "****" in error.what
    assert "s3cret" not in str(error)
    assert error.__cause__ is None


def test_secret_can_come_from_environment():
    assert read(query="api-key-env=KEY", environ={"KEY": "k"}).options.api_key == Secret("k")
    assert read(api_key_env="KEY", environ={"KEY": "k"}).options.api_key == Secret("k")


@pytest.mark.parametrize("environ", [{}, {"KEY": ""}])
def test_error_names_variable_that_is_not_set(environ):
    error = refusal(query="api_key_env=KEY", environ=environ)
    assert "environment variable KEY" in error.what


def test_secret_in_place_of_a_variable_name_is_not_shown():
    assert "s3cret" not in str(refusal(query="api_key_env=s3cret"))
    assert "s3cret" not in str(refusal(api_key_env=Secret("s3cret")))


def test_secret_together_with_its_variable_is_refused():
    assert "both 'api_key' and 'api_key_env'" in refusal(query="api_key=a&api_key_env=KEY", environ={"KEY": "k"}).what


def test_option_that_is_not_secret_accepts_no_variable():
    assert "no option 'text_env'" in refusal(query="text_env=HOME").what


def test_password_env_sets_url_password_if_schema_has_no_password():
    assert read(query="password_env=PW", environ={"PW": "p"}).password == Secret("p")
    assert read().password is None
    assert "no option 'password'" in refusal(query="password=p").what


def test_password_env_sets_option_if_schema_has_a_password():
    found = read(Login, query="password_env=PW", environ={"PW": "p"})
    assert found.options == Login(Secret("p"))
    assert found.password is None


def test_object_of_the_program_is_passed_unchanged_and_only_as_keyword():
    client = object()
    assert read(Given, client=client).options.client is client
    assert read(Given).options.client is None
    for error in (refusal(Given, "client=hunter2"), refusal(Given, client="hunter2")):
        assert "hunter2" not in str(error)
        assert error.what == "the option 'client' of x: is ****, which is not an object of the program, or none"
        assert error.remedy == "Pass it like open_backend(URL, client=…)."


def test_contradictory_options_are_refused_with_the_message_of_the_schema():
    error = refusal(Pair, low=5, high=3)
    assert "low is 5 and high is 3" in error.what
    assert isinstance(error.__cause__, ValueError)


@pytest.mark.parametrize("kind", [list[str], dict, "str | int", bytes, Literal[True], "Duration | Size"])
def test_schema_with_unsupported_type_is_refused(kind):
    schema = dataclass(type("Odd", (), {"__annotations__": {"odd": kind}, "__module__": __name__}))
    with pytest.raises(TypeError, match="odd"):
        fields_of(schema)


def test_schema_that_is_not_a_dataclass_is_refused():
    with pytest.raises(TypeError, match="not a dataclass"):
        fields_of(int)


@settings(deadline=None)
@given(st.integers(0, 10**15), st.sampled_from(["B", "kB", "MB", "KiB", "MiB", "GiB", "TiB", ""]))
def test_size_is_exact_in_every_unit(number, unit):
    factor = {"kB": 10**3, "MB": 10**6, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}.get(unit, 1)
    assert read(max_body=f"{number}{unit}").options.max_body == number * factor


@settings(deadline=None)
@given(st.sampled_from(list(fields_of(Schema))), st.text(max_size=30))
def test_any_text_is_converted_or_refused(name, text):
    with suppress(OptionError):
        read(**{name: text})
