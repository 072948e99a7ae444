"""`brrr cancel`, `brrr retry` and `brrr dead redrive --failed` within one process."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from brrr_cli.handlers import load_handlers
from brrr_core import Task

Command = Callable[..., Any]
Work = Callable[[Mapping[str, Task]], None]


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request of a fleet does not wait for its workers: there are none."""
    monkeypatch.setattr("brrr_core.engine.control.MARKER_DELAY", 0)
    monkeypatch.setattr("brrr_core.engine.cancelling.GUARD_DELAY", 0)


def test_cancelled_call_fails_and_runs_again_after_a_retry(command: Command, work: Work, tasks: Path) -> None:
    command("schedule", "hello", "you", "--topic", "demo")
    cancelled = command("cancel", "hello", "you", "--topic", "demo")
    work(load_handlers("tasks"))
    failed = command("result", "hello", "you")
    again = command("cancel", "hello", "you", "--topic", "demo")
    retried = command("retry", "hello", "you", "--topic", "demo")
    work(load_handlers("tasks"))

    assert cancelled.out.startswith("cancelled hello on demo: call ")
    assert (failed.code, failed.out) == (6, "")
    assert again.out.startswith("hello has an outcome already: call ")
    assert retried.out.startswith("scheduled hello on demo: call ")
    assert command("result", "hello", "you") == (0, '"Hello, you!"\n', "")
    assert command("retry", "hello", "you", "--topic", "demo").out.startswith("hello has no failure to retry")


def test_cancelled_schedule_is_not_waited_for_until_it_is_resumed(command: Command, work: Work, tasks: Path) -> None:
    root = command("schedule", "hello", "you", "--topic", "demo", "--json").json["root_id"]
    assert command("cancel", "--root", root).out == f"cancelled the schedule {root}\n"
    work(load_handlers("tasks"))
    assert command("result", "hello", "you").code == 3
    assert command("cancel", "--root", root, "--resume", "--json").json == {"root_id": root, "cancelled": False}


@pytest.mark.parametrize(
    "tokens",
    [
        ("cancel",),
        ("cancel", "hello", "--root", "r"),
        ("cancel", "hello", "--topic", "t", "--resume"),
        ("cancel", "hello"),
    ],
)
def test_request_must_name_a_call_with_its_topic_or_a_root(command: Command, tokens: tuple[str, ...]) -> None:
    assert command(*tokens).code == 2


def test_json_says_what_was_done(command: Command, work: Work, tasks: Path) -> None:
    done = [command("cancel", "hello", "you", "--topic", "demo", "--json").json for _ in range(2)]
    assert [each["cancelled"] for each in done] == [True, False]
    retried = [command("retry", "hello", "you", "--topic", "demo", "--json").json for _ in range(2)]
    assert [set(each) for each in retried] == [{"call_hash", "root_id", "topic"}] * 2
    assert retried[1]["root_id"] is None
    work(load_handlers("tasks"))
    assert command("result", "hello", "you").out == '"Hello, you!"\n'  # although it was never scheduled before


def test_forced_call_fails_without_a_worker(command: Command) -> None:
    command("schedule", "hello", "you", "--topic", "demo")
    assert command("cancel", "hello", "you", "--topic", "demo", "--force").out.startswith("cancelled hello on demo")
    assert command("result", "hello", "you").code == 6


def test_dead_letters_are_put_back_with_failed(command: Command, work: Work, tasks: Path) -> None:
    command("schedule", "fails", "one", "--topic", "demo")
    work(load_handlers("tasks"))
    assert command("dead", "redrive", "demo", "--failed").out == "put 1 dead letter of demo back\n"
    assert command("queue", "demo", "--json").json["topics"][0]["ready"] == 1
