"""`brrr schedule`, `brrr result` and `brrr complete` within one process."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import brrr_core as brrr
from brrr_cli.handlers import load_handlers
from brrr_core import Task
from brrr_core.engine.roots import parse_root_id

Command = Callable[..., Any]
Work = Callable[[Mapping[str, Task]], None]


def test_result_of_scheduled_call_is_printed_after_run(command: Command, work: Work, tasks: Path) -> None:
    scheduled = command("schedule", "fib", "11", "--topic", "demo")
    missing = command("result", "fib", "11")
    work(load_handlers("tasks"))
    found = command("result", "fib", "11")
    again = command("schedule", "fib", "11", "--topic", "demo")
    waited = command("schedule", "fib", "11", "--topic", "demo", "--wait")

    assert (scheduled.code, scheduled.err) == (0, "")
    assert scheduled.out.startswith("scheduled fib on demo: call ")
    assert (missing.code, missing.out) == (3, "")
    assert "BRRR-CALL-01" in missing.err
    assert found == (0, "89\n", "")
    assert again.out.startswith("fib has a result already: call ")
    assert (waited.code, waited.out) == (0, "89\n")


def test_schedule_with_json_prints_json(command: Command) -> None:
    said = command("schedule", "fib", "11", "--topic", "demo", "--json")

    assert said.code == 0
    assert said.json.keys() == {"call_hash", "root_id", "topic", "state", "since", "was_dead_lettered"}
    assert (said.json["topic"], said.json["state"], said.json["since"]) == ("demo", "put", None)


def test_status_shows_the_state_of_a_call(command: Command, work: Work, tasks: Path) -> None:
    unknown = command("status", "fib", "11")
    command("schedule", "fib", "11", "--topic", "demo")
    scheduled = command("status", "fib", "11")
    work(load_handlers("tasks"))
    done = command("status", "fib", "11", "--json")

    assert unknown == (0, "fib is unknown\n", "")
    assert re.fullmatch(r"fib is scheduled, \d+ s ago\n", scheduled.out)
    assert (done.json["state"], done.json["reason"]) == ("done", None)


def test_show_prints_all_records_of_a_call_by_its_hash(command: Command, work: Work, tasks: Path) -> None:
    missing = command("show", "0" * 64)
    call = command("schedule", "hello", "John", "--topic", "demo", "--json").json["call_hash"]
    scheduled = command("show", call)
    work(load_handlers("tasks"))
    done = command("show", call)
    as_json = command("show", call, "--json").json

    assert (missing.code, missing.out) == (3, "")
    assert "BRRR-CALL-01" in missing.err
    assert re.fullmatch(r'hello is scheduled, \d+ s ago\nargs: \["John"\]\n', scheduled.out)
    assert done.out == 'hello is done\nargs: ["John"]\nresult: "Hello, John!"\n'
    assert (as_json["task_name"], as_json["args"], as_json["result"]) == ("hello", ["John"], "Hello, John!")


def test_show_names_the_calls_that_wait(command: Command, work: Work) -> None:
    @brrr.handler
    async def asks(app: brrr.ActiveWorker) -> Any:
        return await app.call("hello", topic="elsewhere")("Ada")

    parent = command("schedule", "asks", "--topic", "demo", "--json").json["call_hash"]
    work({"asks": asks})
    child = command("status", "hello", "Ada", "--json").json["call_hash"]

    assert command("show", child).out.endswith(f"wakes {parent} on demo\n")


def test_schedule_says_that_call_was_scheduled_before(command: Command) -> None:
    command("schedule", "fib", "11", "--topic", "demo")
    again = command("schedule", "fib", "11", "--topic", "demo")
    redriven = command("schedule", "fib", "11", "--topic", "demo", "--redrive")

    assert (again.code, again.err) == (0, "")
    assert again.out.startswith("fib was scheduled already, ")
    assert "--redrive puts it again" in again.out
    assert redriven.out.startswith("scheduled fib on demo: call ")


@pytest.mark.parametrize(
    ("tokens", "other", "same"),
    [
        (("--n", "11"), ("11",), False),
        (("--n", "11", "--handlers", "tasks"), ("11",), True),
        (("--handlers", "tasks", "--salt", "x", "--n", "11"), ("11", "x"), True),
        (("--args", "[11]"), ("11",), True),
        (("--kwargs", '{"n": 11}'), ("--n", "11"), True),
        (("--", "--topic", "x"), ("--kwargs", '{"topic": "x"}'), True),
        (("--n", "11", "--codec", "json-object"), ("11", "--codec", "json-object", "--handlers", "tasks"), True),
    ],
)
def test_arguments_identify_a_call(
    command: Command, tasks: Path, tokens: tuple[str, ...], other: tuple[str, ...], same: bool
) -> None:
    # Everything after -- belongs to the task, so the command's own options come first.
    one = command("schedule", "fib", "--topic", "demo", "--json", *tokens)
    two = command("schedule", "fib", "--topic", "demo", "--json", *other)

    assert (one.json["call_hash"] == two.json["call_hash"]) is same


def test_codec_comes_from_environment(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRRR_CODEC", "json-object")

    assert "json-object codec cannot encode" in command("schedule", "fib", "11", "--topic", "demo").err


def test_delay_delays_message(command: Command) -> None:
    command("schedule", "fib", "11", "--topic", "demo", "--delay", "1h")

    assert command("queue", "demo", "--json").json["topics"][0]["delayed"] == 1


def test_redrive_marks_root(command: Command) -> None:
    said = command("schedule", "fib", "11", "--topic", "demo", "--redrive", "--json")

    assert said.json["root_id"].startswith("redrive-")


def test_spawn_limit_is_in_root_id(command: Command) -> None:
    said = command("schedule", "fib", "11", "--topic", "demo", "--spawn-limit", "50000", "--json")

    assert parse_root_id(said.json["root_id"]).spawn_limit == 50_000


@pytest.mark.parametrize("tokens", [("schedule", "fib", "11", "--topic", "demo"), ("result", "fib", "11", "--wait")])
def test_timeout_has_its_own_exit_code(command: Command, tokens: tuple[str, ...]) -> None:
    ended = command(*tokens, "--timeout", "20ms", "--json")

    assert (ended.code, ended.out) == (4, "")
    assert json.loads(ended.err)["error"]["code"] == "BRRR-CALL-02"


@pytest.mark.parametrize(
    ("tokens", "what"),
    [
        ((), ""),
        (("schedule",), "TASK"),
        (("schedule", "fib"), "--topic"),
        (("schedule", "fib", "--topic", "demo", "--timeout", "5x"), "'5x' is not a duration"),
        (("schedule", "fib", "--topic", "demo", "--delay", "-1s"), "--delay"),
        (("schedule", "fib", "--topic", ""), "topic"),
        (("schedule", "fib", "--topic", "demo", "--codec", "jsn"), "Did you mean 'json'?"),
        (("schedule", "nosuch", "--topic", "demo", "--handlers", "tasks"), "has no handler 'nosuch'"),
        (("schedule", "fib", "1", "2", "3", "--topic", "demo", "--handlers", "tasks"), "do not fit"),
        (("queue",), "no topic is named"),
        (("queue", "demo", "--queue", "memori:"), "Did you mean 'memory'?"),
        (("queue", "demo", "--queue", "memory"), "has no scheme"),
        (("dead", "list", "demo", "--limit", "0"), "--limit"),
        (("worker", "tasks"), "--topic"),
        (("worker", "nosuch", "--topic", "demo"), "no module 'nosuch'"),
        (("worker", "tasks", "--topic", "demo", "--max-attempts", "0"), "--max-attempts"),
        (("nosuch",), "nosuch"),
    ],
)
def test_invalid_command_line_exits_with_code_2(
    command: Command, tasks: Path, tokens: tuple[str, ...], what: str
) -> None:
    if not tokens:  # shows the help
        assert command().code == 0
        return
    ended = command(*tokens)

    assert (ended.code, ended.out) == (2, "")
    [line] = ended.err.splitlines()
    assert line.startswith("brrr: [BRRR-")
    assert what in line


def test_missing_queue_is_clear_error(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BRRR_QUEUE")

    for tokens in (("queue", "demo"), ("schedule", "fib", "--topic", "demo"), ("setup",), ("dead", "list", "demo")):
        ended = command(*tokens)
        assert ended.code == 2
        assert "BRRR_QUEUE" in ended.err


def test_secret_in_misspelt_option_is_masked(command: Command) -> None:
    ended = command("queue", "demo", "--quue=redis://me:hunter2@host")

    assert ended.code == 2
    assert "hunter2" not in ended.err


def test_event_is_completed_by_hand_once(command: Command) -> None:
    first = command("complete", "approval", "7", "--event", "--value", "true")
    again = command("complete", "approval", "7", "--event", "--failure", "too late", "--json")

    assert (first.code, first.err) == (0, "")
    assert first.out.startswith("completed event approval: ")
    assert again.json == {"call_hash": first.out.split()[-1], "first": False}


def test_call_is_completed_and_failed_by_hand(command: Command) -> None:
    command("complete", "fib", "11", "--value", "89")
    command("complete", "fib", "12", "--failure", "no time")

    assert command("result", "fib", "11").out == "89\n"
    failed = command("result", "fib", "12")
    assert (failed.code, "no time" in failed.err) == (6, True)


@pytest.mark.parametrize("outcome", [(), ("--value", "1", "--failure", "no")])
def test_outcome_by_hand_is_a_value_or_a_failure(command: Command, outcome: tuple[str, ...]) -> None:
    said = command("complete", "fib", "11", *outcome)

    assert (said.code, "Write either --value or --failure." in said.err) == (2, True)
