"""Secrets of URLs never appear in the output, however they are passed or spelled."""

import base64
import binascii
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from urllib.parse import quote

import pytest

from brrr_cli.logs import MaskingFormatter
from brrr_cli.secrets import Secrets
from brrr_core import register
from brrr_core.backend import BackendManifest, Secret
from brrr_core.plugins import backend_manifest, unregister

SECRET = "hunter2"


@dataclass(frozen=True)
class Options:
    token: Secret | None = None
    x: Secret | None = None
    database: str = "main"


@pytest.fixture(name="locked")
def scheme_with_secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[BackendManifest]:
    for variable in ("BRRR_QUEUE", "BRRR_STORE", "BRRR_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("P", SECRET)
    manifest = replace(backend_manifest("memory"), schemes=("locked",), options=Options)
    register(manifest)
    yield manifest
    unregister(manifest)


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("scheme", ["locked", "nosuch"])  # a known scheme and an unknown one
@pytest.mark.parametrize(
    "place",
    [
        "//u:hunter2@h",
        "//u:hun%74er2@h",
        "//:hunter2@h/0",
        "//hunter2@h",
        "//h?token=hunter2",
        "//h?token=%68unter2",
        "//h?x_env=P",
        "//h?x-env=P",
        "//h?password_env=P",
        "name?token=hunter2",
    ],
)
@pytest.mark.parametrize("option", [["--queue", "{}"], ["--queue={}"], ["{}"]])
def test_secret_is_masked_in_any_part_of_url(scheme: str, place: str, option: list[str]) -> None:
    secrets = Secrets(["worker", "tasks", *(word.format(f"{scheme}:{place}") for word in option)])

    assert secrets.mask("AUTH hunter2 / hun%74er2 failed") == "AUTH **** / **** failed"


@pytest.mark.usefixtures("locked")
def test_secret_in_environment_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRRR_STORE", "locked://h?token=hunter2")

    assert Secrets([]).mask("AUTH hunter2") == "AUTH ****"


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("url", ["locked://u:hunter2@h?token=a@b", "locked://u:hunter2@h:x", "locked://u:hunter2@h?x"])
def test_secret_of_unreadable_url_is_masked(url: str) -> None:
    assert SECRET not in Secrets([url]).mask(f"{url} and {SECRET}")


@pytest.mark.usefixtures("locked")
def test_every_spelling_of_secret_is_masked() -> None:
    secrets = Secrets(["locked://u:p%40s%25%22%27%5C%20%C3%A9%0As@h"])
    secret = "p@s%\"'\\ é\ns"
    spellings = [
        secret,
        repr(secret),
        ascii(secret),
        json.dumps(secret),
        str(secret.encode()).replace("\\xc3\\xa9", "é"),
        "p%40s%25%22%27%5c+%c3%a9%0as",
        "p@s%25%22'\\%20é%0As",
        " ".join(secret.split()),
    ]

    for spelling in spellings:
        masked = Secrets(["locked://u:p%40s%25%22%27%5C%20%C3%A9%0As@h"]).mask(f"<{spelling}>")
        assert masked.strip("<>b'\"") == "****", spelling
    assert secrets.mask("<p@s>") == "<p@s>"


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("before", ["", "u:", "me:", "admin:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.b16encode, binascii.hexlify])
def test_encoded_secret_is_masked_with_any_neighbours(before: str, encode: Callable[[bytes], bytes]) -> None:
    secret = "h\u00fcnter2?~>"
    mask = Secrets([f"locked://u:{quote(secret)}@h"]).mask

    for after in ("", "x", "yz"):
        text = encode(f"{before}{secret}{after}".encode()).decode()
        alone = encode(secret.encode()).decode().rstrip("=")
        assert "****" in mask(f"Basic {text}")
        assert alone[2:-2] not in mask(f"Basic {text}")


@pytest.mark.usefixtures("locked")
def test_text_without_secrets_is_unchanged() -> None:
    text = "admin of localhost on main, 5s"

    assert Secrets(["locked://admin:hunter2@localhost?database=main"]).mask(text) == text
    assert Secrets(["locked://localhost?database=main&wait=5s&token_env=NOT_SET"]).mask("NOT_SET on main") == (
        "NOT_SET on main"
    )
    assert Secrets(["worker", "tasks:handlers", "--topic", "main"]).mask(text) == text


@pytest.mark.usefixtures("locked")
def test_short_secret_that_is_not_a_word_is_masked_only_as_a_whole() -> None:
    assert Secrets(["locked://u:x1@h"]).mask("AUTH x1 failed at 'x1', x10") == "AUTH **** failed at '****', x10"


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("a", "brrr-foo 1.0 has a manifest that claims a name"),
        ("has", "brrr-foo 1.0 has a manifest"),
        ("10", "Redis did not answer within 10 s"),
        ("t", "it doesn't answer"),
        ("test", "use the latest version, or the fastest one"),
    ],
)
def test_secret_hides_no_ordinary_word_or_number(secret: str, text: str) -> None:
    assert Secrets([f"locked://u:{secret}@h"]).mask(text) == text


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("secret", ["a", "has", "10"])
@pytest.mark.parametrize("around", ["AUTH {} failed", "at '{}'", 'at "{}"', "at `{}`", "password={} x", "u:{}", "{}@h"])
def test_short_secret_is_masked_where_it_stands_as_a_value(secret: str, around: str) -> None:
    assert Secrets([f"locked://u:{secret}@h"]).mask(around.format(secret)) == around.format("****")


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("around", ["AUTH {}", "b'$4\\r\\n{}\\r'", "x%2F{}%2F", "my_{}_1", "{}5"])
def test_secret_of_letters_is_masked_in_any_encoding(around: str) -> None:
    assert Secrets(["locked://u:test@h"]).mask(around.format("test")) == around.format("****")


def test_scheme_registered_later_narrows_masking(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = Secrets(["later://h?database=main&token=hunter2"])
    manifest = replace(backend_manifest("memory"), schemes=("later",), options=Options)

    assert secrets.mask("main hunter2") == "**** ****"
    register(manifest)
    try:
        assert secrets.mask("main hunter2") == "main ****"
    finally:
        unregister(manifest)


@pytest.mark.usefixtures("locked")
def test_log_records_and_tracebacks_are_masked() -> None:
    formatter = MaskingFormatter(Secrets(["worker", "tasks", "--queue", "locked://u:hunter2@h"]))
    error = RuntimeError("no answer")
    error.__cause__ = OSError(f"AUTH {SECRET} failed")
    record = logging.LogRecord(
        "redis", logging.ERROR, __file__, 1, "with %s", (SECRET,), (type(error), error, error.__traceback__)
    )

    text = formatter.format(record)

    assert "with ****" in text
    assert "OSError: AUTH **** failed" in text
    assert SECRET not in text
