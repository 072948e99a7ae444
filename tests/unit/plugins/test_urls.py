"""Backend URLs are parsed exactly, and never shown with a secret."""

from dataclasses import dataclass
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brrr_core.backend import mask_url, parse_url
from brrr_core.backend.options import BackendUrl, Duration, Secret
from brrr_core.errors import BrrrError, UrlError
from brrr_core.plugins.opening import plan_backend
from brrr_core.plugins.registry import REGISTRY

MARK = "ZQX"
"""Part of every secret, and of nothing else."""


@dataclass(frozen=True)
class Schema:
    password: Secret | None = None
    lease: Duration | None = None
    name: str = ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("memory:", BackendUrl("memory")),
        ("memory:jobs", BackendUrl("memory", path="jobs")),
        ("sqlite:///brrr.db", BackendUrl("sqlite", path="/brrr.db")),
        ("sqlite:////var/brrr.db", BackendUrl("sqlite", path="//var/brrr.db")),
        ("sqlite:///my%20jobs%23.db", BackendUrl("sqlite", path="/my jobs#.db")),
        ("REDIS://Host/0", BackendUrl("redis", hosts=(("Host", None),), path="/0")),
        ("redis://user:p%40s:s@h:6379/0", BackendUrl("redis", "user", Secret("p@s:s"), (("h", 6379),), "/0")),
        ("redis://:pw@h", BackendUrl("redis", None, Secret("pw"), (("h", None),))),
        ("nats://token@h", BackendUrl("nats", "token", None, (("h", None),))),
        ("redis+unix:///run/redis.sock", BackendUrl("redis+unix", path="/run/redis.sock")),
        ("redis+unix://u:pw@/run/redis.sock", BackendUrl("redis+unix", "u", Secret("pw"), (), "/run/redis.sock")),
        ("nats://a:1,b:2,c", BackendUrl("nats", hosts=(("a", 1), ("b", 2), ("c", None)))),
        ("redis://[::1]:6379,[fe80::1]/0", BackendUrl("redis", hosts=(("::1", 6379), ("fe80::1", None)), path="/0")),
        ("sqs://?region=eu", BackendUrl("sqs")),
    ],
)
def test_url_is_parsed_into_its_parts(text, expected):
    assert parse_url(text).url == expected


def test_query_is_decoded_in_order_with_every_value_a_secret():
    query = parse_url("memory:?b=1+%2B%26&a=&b=x=y&").query
    assert query == (("b", Secret("1++&")), ("a", Secret("")), ("b", Secret("x=y")))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no scheme"),
        ("brrr.db", "no scheme"),
        ("://h", "no scheme"),
        ("9p://h", "no scheme"),
        ("my_server://h", "scheme with a '_'"),
        ("sch\xf6n:", "a letter that is not ASCII"),
        ("redis://h/0\n", "control character"),
        (" redis://h", "no scheme"),
        ("redis://h/0 ", "a space at an end"),
        ("redis://h\x00", "control character"),
        ("redis://u:p\tw@h", "control character"),
        ("redis://h/%00", "control character in its path"),
        ("redis://h%0a", "control character in its host"),
        ("redis://u%1b@h", "control character in its username"),
        ("sqlite:/brrr.db", "one slash"),
        ("sqlite:///a#b.db", "'#'"),
        ("redis:user@h", "without '//'"),
        ("redis://u:p@ss@h", "more than one '@'"),
        ("redis://u:p/ss@h", "one in its path"),
        ("redis://h/0;password=pw", "';' before its options"),
        ("redis://h;password=pw", "';' before its options"),
        ("redis://h/0&password=pw?db=1", "'&' before its options"),
        ("memory:jobs;x=y", "';' before its options"),
        ("redis://h:", "port"),
        ("redis://h:0", "port"),
        ("redis://h:65536", "port"),
        ("redis://h:\uff16", "port"),
        ("redis://h:+1", "port"),
        ("redis://h:" + "9" * 5000, "port"),
        ("redis://h:1:2", "port"),
        ("redis://::1", "empty or malformed host"),
        ("redis://:6379", "empty or malformed host"),
        ("nats://a,,b", "empty or malformed host"),
        ("redis://a%2Fb", "empty or malformed host"),
        ("redis://a b", "empty or malformed host"),
        ("redis://[::g]", "not an IPv6"),
        ("redis://[::1", "not an IPv6"),
        ("redis://[::1]x", "port"),
        ("redis://h?tls", "without a name or a value"),
        ("redis://h?=1", "without a name or a value"),
        ("redis://u:100%@h", "encodes nothing"),
        ("redis://u:%ff@h", "not UTF-8"),
    ],
)
def test_malformed_url_is_refused_with_reason(text, says):
    with pytest.raises(UrlError, match="BRRR-URL-01") as caught:
        parse_url(text)
    assert says in caught.value.what
    assert caught.value.remedy


@pytest.mark.parametrize("thing", [None, 5, b"memory:", Secret("memory:")])
def test_value_that_is_not_a_str_is_refused(thing):
    with pytest.raises(UrlError, match=type(thing).__name__):
        parse_url(thing)


hosts = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9.-]{0,20}", fullmatch=True)
printable = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]))


@settings(deadline=None)
@given(
    username=printable,
    password=st.text(st.characters(exclude_categories=["Cs"])),
    places=st.lists(st.tuples(hosts, st.none() | st.integers(1, 65535)), min_size=1, max_size=3),
    path=printable,
    query=st.lists(st.tuples(printable.filter(bool), st.text(st.characters(exclude_categories=["Cs"])))),
)
def test_any_well_formed_url_is_parsed_into_its_parts(username, password, places, path, query):
    login = f"{quote(username, '')}:{quote(password, '')}@"
    netloc = ",".join(host if port is None else f"{host}:{port}" for host, port in places)
    pairs = "&".join(f"{quote(name, '')}={quote(value, '')}" for name, value in query)
    url, found = parse_url(f"x+y://{login}{netloc}/{quote(path, '/')}?{pairs}")
    assert url == BackendUrl("x+y", username or None, Secret(password) if password else None, tuple(places), "/" + path)
    assert [(name, value.reveal()) for name, value in found] == query


@settings(deadline=None)
@given(st.text(st.sampled_from(":/?#[]@,%&=+. ab1\n\x00é") | st.characters()))
def test_any_text_is_parsed_or_refused_with_printable_message(text):
    assert mask_url(text).isprintable()
    assert refusal_of(text).isprintable()


def refusal_of(text):
    """Return the str and the repr of the error for a URL, or an empty text if it is accepted."""
    try:
        parse_url(text)
    except UrlError as error:
        return f"{error} {error!r}"
    return ""


wild = st.text(st.sampled_from(":/?#[]@,%&=+;. ab1\n") | st.characters(exclude_categories=["Cs"]), max_size=12)
secrets = st.builds(lambda before, after: before + MARK + after, wild, wild)
starts = st.sampled_from(["redis://", "redis://user", "nats://a,b", "x:", "user", ""]) | wild


@settings(deadline=None)
@given(start=starts, secret=secrets, end=wild)
@example(start="user", secret=f"{MARK}:x", end="h")
@example(start="redis://u", secret=f"p/{MARK}", end="h/0")
@example(start="redis://u", secret=f"p?{MARK}", end="h/0")
@example(start="redis://u", secret=f"1/{MARK}?", end="h/0")
@example(start="redis://u", secret=f"p#{MARK}=1&", end="h/0")
def test_raw_password_never_shows_in_any_malformed_url(start, secret, end):
    text = f"{start}:{secret}@{end}"
    assert MARK not in mask_url(text)
    assert MARK not in mask_url(text, Schema)
    assert MARK not in refusal_of(text)


@settings(deadline=None)
@given(
    start=st.sampled_from(["redis://h/0", "redis://u:p@h", "x:", "x://a b", "x://h:99999"]), secret=secrets, end=wild
)
@example(start="redis://h", secret=f"p@{MARK}", end="")
@example(start="redis://h", secret=f"a&{MARK}=1", end="")
def test_raw_option_value_never_shows_without_schema(start, secret, end):
    text = f"{start}?lease=30s&password={secret}{end}"
    assert MARK not in mask_url(text)
    assert MARK not in refusal_of(text)


@settings(deadline=None)
@given(name=st.sampled_from(["password", "pass%77ord", "password_env", "unknown"]), secret=secrets)
def test_secret_or_unknown_option_never_shows_with_schema(name, secret):
    text = f"redis://h/0?lease=30s&{name}={quote(secret, '')}"
    assert MARK not in mask_url(text, Schema)
    assert MARK not in repr(parse_url(text))


@settings(deadline=None)
@given(secrets)
def test_parsed_password_never_shows(secret):
    parsed = parse_url(f"redis://u:{quote(secret, '')}@h/0")
    assert MARK not in f"{parsed} {parsed!r} {parsed.url}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sqlite:///brrr.db", "sqlite:///brrr.db"),
        ("memory:jobs", "memory:jobs"),
        ("redis://user:pw@a:1,[::1]:2/0", "redis://user:****@a:1,[::1]:2/0"),
        ("redis://us\ner:pw@h", "redis://****@h"),
        ("redis:user:pw", "redis:****"),
        ("redis:pw@h", "redis:****@h"),
        ("redis://u:1?2@h", "redis:****"),
        ("nats://token@h", "nats://****@h"),
        ("redis://user:pw", "redis://****"),
        ("redis://h/0&password=pw", "redis://h****"),
        ("redis://h?lease=30s&password=pw&other=pw&pw", "redis://h?lease=30s&password=****&****&****"),
        ("redis://h?name=a;password=pw", "redis://h?name=****"),
        ("redis://h?password-env=PW", "redis://h?password_env=****"),
        ("redis://h#pw", "redis://h#****"),
        ("redis://h?lease=1#pw", "redis://h?lease=1#****"),
        ("pw", "****"),
    ],
)
def test_masked_url_shows_parts_that_are_not_secret(text, shown):
    assert mask_url(text, Schema) == shown


def test_no_option_shows_without_schema():
    assert mask_url("redis://h?lease=30s") == "redis://h?****"


@pytest.mark.parametrize("scheme", REGISTRY.backends.names())
@pytest.mark.parametrize(
    "rest", ["//h;k=ZQX", "//h/0;k=ZQX", "//h/k=ZQX", "//k=ZQX", "//h/0&k=ZQX", ":k=ZQX", "//h/?#ZQX"]
)
def test_no_error_shows_option_that_was_written_before_the_question_mark(scheme: str, rest: str) -> None:
    said = "made: it is the name of a file"
    try:
        plan_backend(f"{scheme}:{rest}").make()
    except BrrrError as error:
        said = str(error)
    assert MARK not in said


def test_no_representation_shows_a_login() -> None:
    url = parse_url("nats://tok3n:hunter2@h:1/p").url

    for shown in (str(url), repr(url), f"{url!r:>5}", repr([url])):
        assert "tok3n" not in shown
        assert "hunter2" not in shown
        assert "h:1/p" in shown
