"""Tokens of a command line become the arguments of a task, or a clear error."""

import pytest

from brrr_cli.arguments import read_arguments
from brrr_core.errors import CommandError


@pytest.mark.parametrize(
    ("tokens", "args", "kwargs"),
    [
        ([], [], {}),
        (["11", "John", "true", "null", '"11"'], [11, "John", True, None, "11"], {}),
        (["-3", "-0.5", "-"], [-3, -0.5, "-"], {}),
        (["[1, 2]", '{"a": 1}', "[1, 2", "1 2"], [[1, 2], {"a": 1}, "[1, 2", "1 2"], {}),
        (["--n", "11", "--name=John", "--sign", "-3"], [], {"n": 11, "name": "John", "sign": -3}),
        (["1", "--dry-run", "true", "2"], [1, 2], {"dry_run": True}),
        (["--text="], [], {"text": ""}),
        (["--text", "--other"], [], {"text": "--other"}),
        (['"--text"'], ["--text"], {}),
        (["NaN", "Infinity"], ["NaN", "Infinity"], {}),
        (["9" * 5000], ["9" * 5000], {}),
        (["[" * 100_000], ["[" * 100_000], {}),
    ],
)
def test_token_is_json_or_else_text(tokens: list[str], args: list[object], kwargs: dict[str, object]) -> None:
    assert read_arguments(tokens) == (args, kwargs)


def test_args_and_kwargs_options_take_json() -> None:
    assert read_arguments(["--b", "2"], '[1, "x"]', '{"a": 1}') == ([1, "x"], {"a": 1, "b": 2})


@pytest.mark.parametrize(
    ("tokens", "args", "kwargs", "what"),
    [
        (["--n"], None, None, "--n has no value"),
        (["--n", "1", "--n", "2"], None, None, "'n' is given twice"),
        (["--n", "1"], None, '{"n": 1}', "'n' is given twice"),
        (["-x"], None, None, "'-x' is neither an option nor JSON"),
        (["--a.b", "1"], None, None, "'--a.b' is neither an option nor JSON"),
        (["1"], "[2]", None, "given both directly and by --args"),
        ([], "{}", None, "--args is not a JSON array"),
        ([], None, "[1]", "--kwargs is not a JSON object"),
    ],
)
def test_unreadable_arguments_are_refused(tokens: list[str], args: str | None, kwargs: str | None, what: str) -> None:
    with pytest.raises(CommandError) as refused:
        read_arguments(tokens, args, kwargs)

    assert what in refused.value.what
    assert refused.value.remedy
