"""A failure is one line with code and remedy, or one JSON object. It never shows a secret."""

import json

import pytest

from brrr_cli.errors import ExitCode, exit_code_of, first_error, report
from brrr_core.errors import (
    BackendUnavailableError,
    BuriedError,
    CommandError,
    NotFoundError,
    NotInstalledError,
    ResultTimeoutError,
    UnknownSchemeError,
    UrlError,
)

SECRET = "hunter2hunter2"
URL = f"redis://me:{SECRET}@host/0?password={SECRET}"


def failure() -> BackendUnavailableError:
    try:
        raise OSError(f"cannot log in with {SECRET}, to {URL}")
    except OSError as cause:
        error = BackendUnavailableError("the server\ndoes not answer", remedy="Start it.")
        error.__cause__ = cause
        return error


def reported(capsys: pytest.CaptureFixture[str], error: BaseException, *tokens: str) -> str:
    report(error, tokens)
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert reported(capsys, failure()) == "brrr: [BRRR-BACKEND-01] the server does not answer. Start it.\n"


def test_error_with_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    error = {"code": "BRRR-BACKEND-01", "what": "the server does not answer", "remedy": "Start it."}

    assert json.loads(reported(capsys, failure(), "queue", "--json")) == {"error": error}


def test_json_argument_of_task_does_not_switch_to_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert reported(capsys, failure(), "schedule", "echo", "--", "--json").startswith("brrr: ")


def test_unexpected_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    [line] = reported(capsys, KeyError("x")).splitlines()

    assert "unexpected KeyError: 'x'" in line
    assert "-v" in line


@pytest.mark.parametrize("switch", ["-v", "--verbose"])
@pytest.mark.parametrize("tokens", [("setup", URL), ("queue", f"--queue={URL}"), ("queue", "--queue", URL)])
def test_verbose_shows_traceback_without_secrets(
    capsys: pytest.CaptureFixture[str], tokens: tuple[str, ...], switch: str
) -> None:
    said = reported(capsys, failure(), *tokens, switch)

    assert "OSError: cannot log in with ****, to redis://me:****@host/0?****" in said
    assert SECRET not in said


def test_secrets_in_environment_are_masked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRRR_STORE", URL)

    assert SECRET not in reported(capsys, failure(), "-v")


def test_first_error_of_group_is_reported() -> None:
    first, second = OSError("1"), OSError("2")

    assert first_error(BaseExceptionGroup("", [BaseExceptionGroup("", [first]), second])) is first


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ResultTimeoutError("x"), ExitCode.TIMEOUT),
        (NotFoundError("x"), ExitCode.NOT_FOUND),
        (BuriedError("x"), ExitCode.BURIED),
        (CommandError("x"), ExitCode.USAGE),
        (UrlError("x"), ExitCode.USAGE),
        (BackendUnavailableError("x"), ExitCode.FAILURE),
        (NotInstalledError("x"), ExitCode.USAGE),
        (UnknownSchemeError("x"), ExitCode.USAGE),
        (KeyError("x"), ExitCode.FAILURE),
    ],
)
def test_error_determines_exit_code(error: Exception, code: ExitCode) -> None:
    assert exit_code_of(error) is code


class MuteError(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


def test_report_of_any_error_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    report(MuteError(), ["-v"])
    assert "unexpected MuteError" in capsys.readouterr().err
