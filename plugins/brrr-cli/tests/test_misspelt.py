"""A misspelt option becomes an argument of the task, and the command asks whether you meant the option."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from brrr_cli.errors import suggest_options
from brrr_cli.program import make_app

Command = Callable[..., Any]
HINT = "Did you mean --wait? --wiat is an argument of the task."


@pytest.mark.parametrize(
    ("tokens", "hint"),
    [
        (["result", "fib", "11", "--wiat"], HINT),
        (["result", "fib", "--wiat=11"], HINT),
        (["schedule", "fib", "--topik", "x"], "Did you mean --topic? --topik is an argument of the task."),
        (["result", "fib", "--code", "x"], "Did you mean --codec? --code is an argument of the task."),
        (["result", "fib", "--kwarks", "x"], "Did you mean --kwargs? --kwarks is an argument of the task."),
        (["result", "fib", "--aargs", "x"], "Did you mean --args? --aargs is an argument of the task."),
        (["result", "fib", "--customer", "x"], ""),  # not --store
        (["result", "fib", "--time", "x"], ""),
        (["result", "fib", "--wiat", "1", "--wiat=2"], HINT),  # once
        (["result", "fib", "--topic", "x"], ""),  # an option of another command
        (["result", "fib", "--wait"], ""),
        (["result", "fib", "--salt", "x", "--n", "11"], ""),
        (["result", "fib", "--", "--wiat", "11"], ""),
        (["status", "fib", "--jsno"], "Did you mean --json? --jsno is an argument of the task."),
        (["complete", "fib", "--valeu", "1"], "Did you mean --value? --valeu is an argument of the task."),
        (["queue", "--wiat"], ""),
        ([], ""),
    ],
)
def test_only_near_options_are_questioned(tokens: list[str], hint: str) -> None:
    assert suggest_options(make_app(), tokens) == hint


@pytest.mark.parametrize(
    ("tokens", "code"),
    [
        (("result", "fib", "11", "--wiat"), 2),  # it has no value
        (("result", "fib", "--wiat", "11"), 3),
        (("schedule", "fib", "--topic", "demo", "--wiat", "11", "--handlers", "tasks"), 2),
        (("schedule", "fib", "--topic", "demo", "--wiat", "11", "--timeout", "20ms"), 4),
    ],
)
def test_remedy_asks_about_misspelt_option(command: Command, tasks: Path, tokens: tuple[str, ...], code: int) -> None:
    ended = command(*tokens, "--json")

    assert ended.code == code
    assert json.loads(ended.err)["error"]["remedy"].startswith(HINT)


def test_parameter_of_handler_is_not_questioned(command: Command, tasks: Path) -> None:
    (tasks / "scores.py").write_text(
        "import brrr_core as brrr\n@brrr.handler_no_arg\nasync def rate(score: int): return score\n"
    )

    ended = command("result", "rate", "--score", "3", "--handlers", "scores", "--json")

    assert ended.code == 3
    assert "Did you mean" not in ended.err


def test_scheduled_call_with_misspelt_option_is_questioned(command: Command) -> None:
    tokens = ("schedule", "fib", "--topic", "demo", "--wiat", "11")

    assert command(*tokens).err == f"{HINT}\n"
    assert command(*tokens, "--quiet").err == ""
