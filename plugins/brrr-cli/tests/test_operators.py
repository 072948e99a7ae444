"""`brrr queue`, `dead`, `backends` and `setup` within one process."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import brrr_core as brrr
from brrr_cli.handlers import load_handlers
from brrr_core import Task
from brrr_core.backend import BackendManifest, Key, QueueCapabilities
from brrr_core.backend.memory import MemoryOptions
from brrr_core.errors import BrokenPluginError
from brrr_core.plugins import Listed, unregister
from brrr_core.plugins.scanning import KNOWN_BACKENDS

Command = Callable[..., Any]
Work = Callable[[Mapping[str, Task]], None]


@pytest.fixture
def buried(command: Command, work: Work, tasks: Path) -> None:
    """Put three dead letters on `demo`."""
    for what in ("one", "two", "three"):
        command("schedule", "fails", what, "--topic", "demo")
        work(load_handlers("tasks"))


def rows(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()]


def test_queue_counts_messages(command: Command) -> None:
    command("schedule", "fib", "11", "--topic", "demo")

    assert rows(command("queue", "demo", "other").out) == [
        ["TOPIC", "READY", "LEASED", "DELAYED", "DEAD"],
        ["demo", "1", "0", "0", "0"],
        ["other", "0", "0", "0", "0"],
    ]
    assert command("queue", "demo", "--json").json == {
        "topics": [{"topic": "demo", "ready": 1, "leased": 0, "delayed": 0, "dead": 0}]
    }


@pytest.mark.usefixtures("buried")
def test_dead_list_shows_calls_and_reasons(command: Command) -> None:
    head, *letters = rows(command("dead", "list", "demo").out)

    assert head == ["AGE", "ATTEMPT", "TASK", "ARGUMENTS", "REASON"]
    assert [letter[1:] for letter in letters] == [
        ["1", "fails", f'["{what}"]', "ValueError:", what] for what in ("one", "two", "three")
    ]


@pytest.mark.usefixtures("buried")
def test_dead_list_prints_json_or_whole_reasons(command: Command) -> None:
    said = command("dead", "list", "demo", "--limit", "1", "--json")
    whole = command("dead", "list", "demo", "-v")

    assert said.err == ""
    assert (said.json["topic"], said.json["total"]) == ("demo", 3)
    [letter] = said.json["dead"]
    assert letter.keys() == {
        *("id", "call_hash", "root_id", "task_name", "payload", "body"),
        *("attempt", "buried_at", "reason"),
    }
    assert (letter["task_name"], letter["payload"], letter["attempt"]) == ("fails", '["one"]', 1)
    assert whole.out.count("Traceback") == 3
    assert f"call {letter['call_hash']}, root {letter['root_id']}\nid {letter['id']}\n" in whole.out


@pytest.mark.usefixtures("buried")
def test_wait_with_topic_ends_when_call_is_dead_lettered(command: Command) -> None:
    ended = command("result", "fails", "two", "--wait", "--topic", "demo", "--timeout", "30s", "-q")

    assert (ended.code, ended.out) == (5, "")
    assert "BRRR-CALL-04" in ended.err


@pytest.mark.usefixtures("buried")
def test_dead_list_notes_further_letters(command: Command) -> None:
    said = command("dead", "list", "demo", "--limit", "2")

    assert len(said.out.splitlines()) == 3
    assert "the oldest 2 of 3" in said.err


async def test_dead_list_shows_foreign_letters(command: Command, url: str) -> None:
    async with brrr.open_backend(url) as backend:
        await backend.queue.put("demo", [b"\xff\xfe", b"li2e1:r1:he"])
        for delivery in await backend.queue.receive("demo", limit=2, wait=0):
            await backend.queue.bury(delivery, "no reason")

    # The command runs its own event loop.
    listed = await asyncio.to_thread(command, "dead", "list", "demo")

    assert [row[2:] for row in rows(listed.out)[1:]] == [
        ["?", "body", "base64://4=", "no", "reason"],
        ["?", "call", "h", "no", "reason"],
    ]


@pytest.mark.usefixtures("buried")
def test_redrive_puts_dead_letters_back(command: Command) -> None:
    one = command("dead", "redrive", "demo", "--limit", "1")
    rest = command("dead", "redrive", "demo", "--json")

    assert one.out == "put 1 dead letter of demo back\n"
    assert rest.json == {"topic": "demo", "redriven": 2}
    assert command("queue", "demo", "--json").json["topics"][0]["ready"] == 3


@pytest.mark.usefixtures("buried")
def test_drop_without_terminal_needs_yes(command: Command) -> None:
    refused = command("dead", "drop", "demo")
    one = command("dead", "drop", "demo", "--limit", "1", "-y")
    rest = command("dead", "drop", "demo", "--yes", "--json")
    none = command("dead", "drop", "demo")  # nothing is left of the topic

    assert (refused.code, refused.out) == (2, "")
    assert "--yes" in refused.err
    assert one.out == "deleted 1 dead letter of demo\n"
    assert rest.json == {"topic": "demo", "dropped": 2}
    assert (none.code, none.out) == (3, "")


@pytest.mark.usefixtures("buried")
@pytest.mark.parametrize(
    ("answer", "code", "left"), [("y\n", 0, 0), ("YES\n", 0, 0), ("n\n", 1, 3), ("\n", 1, 3), ("\x04", 1, 3)]
)
def test_drop_on_terminal_asks(
    command: Command, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, left: int
) -> None:
    typed, terminal = os.openpty()
    with os.fdopen(typed, "wb", buffering=0) as keyboard, os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        keyboard.write(answer.encode())

        ended = command("dead", "drop", "demo")

    assert ended.code == code
    assert "Delete 3 dead letters of demo for good? [y/N]" in ended.err
    assert command("queue", "demo", "--json").json["topics"][0]["dead"] == left


@pytest.mark.usefixtures("buried")
def test_dead_letters_are_chosen(command: Command) -> None:
    two = command("dead", "list", "demo", "--reason", "two", "--json").json["dead"]
    shown = command("dead", "show", "demo", "--hash", two[0]["call_hash"])

    assert [letter["payload"] for letter in two] == ['["two"]']
    assert f"id {two[0]['id']}" in shown.out
    assert "Traceback" in shown.out
    assert len(rows(command("dead", "list", "demo", "--task", "fails", "--newer-than", "1h").out)) == 4
    assert len(rows(command("dead", "list", "demo", "--older-than", "1h").out)) == 1
    assert command("dead", "redrive", "demo", "--id", two[0]["id"], "--json").json["redriven"] == 1
    assert command("dead", "drop", "demo", "--reason", "three", "--yes").out == "deleted 1 dead letter of demo\n"
    assert len(rows(command("dead", "list", "demo").out)) == 2


@pytest.mark.usefixtures("buried")
def test_dead_letters_are_completed_by_hand(command: Command) -> None:
    nothing = command("dead", "complete", "demo", "--value", "1")
    several = command("dead", "complete", "demo", "--value", "1", "--task", "fails")
    one = command("dead", "complete", "demo", "--value", '"ok"', "--reason", "one", "--json")
    rest = command("dead", "complete", "demo", "--failure", "no", "--all", "--yes")

    assert (nothing.code, several.code) == (2, 2)
    assert "Complete the calls of 3 dead letters of demo?" in several.err
    assert one.json == {"topic": "demo", "completed": 1, "kept": 0}
    assert command("result", "fails", "one").out == '"ok"\n'
    assert rest.out == "completed the calls of 2 dead letters of demo\n"
    assert command("result", "fails", "two").code == 6


@pytest.mark.usefixtures("buried")
@pytest.mark.parametrize(
    ("choice", "gone", "asked", "deleted", "left"),
    [
        (["--reason", "one"], 0, "1 dead letter", "1 dead letter", ["two", "three", "more"]),
        ([], 1, "3 dead letters", "2 dead letters", ["more"]),
    ],
)
def test_drop_deletes_only_the_dead_letters_that_it_counted(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    choice: list[str],
    gone: int,
    asked: str,
    deleted: str,
    left: list[str],
) -> None:
    url = os.environ["BRRR_QUEUE"]

    async def agree(question: str) -> bool:
        """Say yes, after another matching dead letter was added, and perhaps one was removed."""
        assert f"Delete {asked} of demo" in question
        async with brrr.open_backend(url) as backend:
            if gone:
                await backend.queue.drop("demo", limit=gone)
            await backend.queue.put("demo", [b"later"])
            for delivery in await backend.queue.receive("demo", limit=1, wait=0):
                await backend.queue.bury(delivery, "one more")
        return True

    monkeypatch.setattr("brrr_cli.commands.dead.confirmed", agree)
    assert command("dead", "drop", "demo", *choice).out == f"deleted {deleted} of demo\n"
    assert [row[-1] for row in rows(command("dead", "list", "demo").out)[1:]] == left


def test_backends_are_listed(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KNOWN_BACKENDS, "later", "brrr-later")

    said = command("backends", "--json").json
    table = command("backends").out

    memory = next(row for row in said["backends"] if row["name"] == "memory")
    assert memory["distribution"] == "brrr-core"
    assert memory["roles"]["queue"]["delay"] is True
    assert memory["error"] is None
    assert {"json", "json-object", "msgpack", "pydantic"} == {row["name"] for row in said["codecs"]}
    assert {"name": "later", "distribution": "brrr-later", "install": "pip install brrr-later"} in said["not_installed"]
    assert "memory:" in table
    assert "pip install brrr-later" in table


def test_broken_backend_is_listed_with_reason(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Listed("bad", "brrr-bad", "1.0", None, BrokenPluginError("it is torn", remedy="Fix it."))
    monkeypatch.setattr("brrr_cli.commands.backends.list_backends", lambda: [row])

    [listed] = command("backends", "--json").json["backends"]
    assert listed["error"] == {"code": "BRRR-PLUGIN-03", "what": "it is torn", "remedy": "Fix it."}
    assert "BROKEN [BRRR-PLUGIN-03] it is torn. Fix it." in command("backends").out


def test_setup_opens_given_backends(command: Command) -> None:
    assert command("setup", "memory:", "memory:").out == "memory: is ready\n"
    assert command("setup", "memory:x?lease=5s", "--json").json == {"url": "memory:x?lease=5s", "done": []}
    assert command("setup").out.endswith(" is ready\n")


def test_gc_removes_what_finished_calls_left_over(command: Command, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/gc.db"
    records = [(Key("value", name), b"1") for name in ("done", "brrr.due/done/0", "brrr.due/running/0")]

    async def write() -> None:
        async with brrr.open_backend(url) as backend:
            await backend.store.write(records)

    asyncio.run(write())
    assert " would remove 1 records of sleeps" in command("gc", url, "--dry-run").out
    assert " removed 1 records of sleeps" in command("gc", url).out
    assert command("gc", url, "--json").json["done"][0] == "removed 0 expired records"
    assert command("gc", "memory:").out == "memory: has nothing to remove\n"


QUEUE_ONLY = BackendManifest(
    contract=1,
    schemes=("queueonly",),
    summary="a queue without a store",
    example="queueonly:x",
    backend="brrr_core.backend.memory:MemoryBackend",
    options=MemoryOptions,
    queue=QueueCapabilities(durable=False, shared=False, delay=True, max_body=1000),
)


@pytest.mark.usefixtures("buried")
def test_operators_can_use_queue_without_store(command: Command, url: str) -> None:
    brrr.register(QUEUE_ONLY)
    try:
        named = ("--queue", url.replace("memory", "queueonly"))
        counted = command("queue", "demo", *named)
        listed = command("dead", "list", "demo", *named)
        chosen = command("dead", "list", "demo", "--task", "fails", *named)
    finally:
        unregister(QUEUE_ONLY)

    assert counted.code == 0
    assert listed.code == 0
    assert "without the store: [BRRR-PLUGIN-04]" in listed.err
    assert [row[2] for row in rows(listed.out)[1:]] == ["?", "?", "?"]
    assert (chosen.code, "--task" in chosen.err) == (2, True)


def put(url: str, *bodies: bytes, topic: str = "demo", lease: bool = False) -> None:
    async def work() -> None:
        async with brrr.open_backend(url) as backend:
            await backend.queue.put(topic, bodies)
            if lease:
                await backend.queue.receive(topic, limit=1, wait=0)

    asyncio.run(work())


def test_topics_are_listed_with_their_messages(command: Command, url: str) -> None:
    put(url, b"one", b"two", topic="\x1b[31mred")
    command("schedule", "fib", "11", "--topic", "demo")
    listed = command("topics")

    assert rows(listed.out) == [
        ["TOPIC", "READY", "LEASED", "DELAYED", "DEAD"],
        ["\\x1b[31mred", "2", "0", "0", "0"],
        ["demo", "1", "0", "0", "0"],
    ]
    assert [each["topic"] for each in command("topics", "--json").json["topics"]] == ["\x1b[31mred", "demo"]


def test_peek_shows_calls_and_leaves_them(command: Command, url: str) -> None:
    command("schedule", "fib", "11", "--topic", "demo")
    put(url, b"\x1b[31m")
    peeked = command("peek", "demo")
    [message] = command("peek", "demo", "--limit", "1", "--json").json["messages"]

    assert [row[:3] for row in rows(peeked.out)[1:]] == [["ready", "fib", "[11]"], ["ready", "?", "body"]]
    assert "\x1b" not in peeked.out
    assert (message["task_name"], message["payload"], message["state"]) == ("fib", "[11]", "ready")
    assert "these are 1 of 2" in command("peek", "demo", "--limit", "1").err
    assert command("queue", "demo", "--json").json["topics"][0]["ready"] == 2


@pytest.mark.usefixtures("buried")
def test_purge_deletes_messages_and_says_what_waits(command: Command) -> None:
    command("schedule", "fib", "11", "--topic", "demo")
    command("schedule", "fib", "12", "--topic", "demo", "--delay", "1h")
    refused = command("purge", "demo")
    purged = command("purge", "demo", "--yes")

    assert (refused.code, "Delete 2 messages of demo for good?" in refused.err) == (2, True)
    assert purged.out == "deleted 2 messages of demo\n"
    assert "brrr redrive TASK ARGUMENTS" in purged.err
    assert command("queue", "demo", "--json").json["topics"] == [
        {"topic": "demo", "ready": 0, "leased": 0, "delayed": 0, "dead": 3}
    ]


@pytest.mark.parametrize(
    "tokens",
    [("queue",), ("peek",), ("purge", "-y"), ("dead", "list"), ("dead", "drop", "-y"), ("dead", "redrive"),
     ("dead", "redrive", "--failed"), ("dead", "complete", "--all", "--value", "1")],
)  # fmt: skip
@pytest.mark.usefixtures("buried")
def test_misspelt_topic_does_not_look_like_an_empty_one(command: Command, tokens: tuple[str, ...]) -> None:
    words = [each for each in tokens if not each.startswith("-")][: 2 if tokens[0] == "dead" else 1]
    ended = command(*words, "demmo", *tokens[len(words) :])

    assert ended.code == 3
    assert "[BRRR-CLI-03] the queue has no topic 'demmo'" in ended.err
    assert "Did you mean 'demo'?" in ended.err


def test_queue_is_watched(command: Command, url: str) -> None:
    put(url, b"one", b"two", lease=True)
    *_, last = command("queue", "demo", "--watch", "--every", "1ms", "--count", "3").out.splitlines()
    sample = command("queue", "demo", "--watch", "--every", "1ms", "--count", "1", "--json").json

    assert last.split() == ["1", "1", "0", "0", "0.0", "0.0", "0.0", "?", "yes", "demo"]
    assert sample == {
        "topic": "demo",
        "ready": 1,
        "leased": 1,
        "delayed": 0,
        "dead": 0,
        "receiving": True,
        "in_per_second": None,
        "out_per_second": None,
        "net_per_second": None,
        "oldest_ready": None,
    }


def test_queue_that_cannot_list_its_topics_says_so(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brrr_core.backend.memory.queue.MemoryInspector", lambda _: None)
    ended = command("topics")

    assert (ended.code, "BRRR-BACKEND-03" in ended.err) == (1, True)
    assert command("queue", "demo").code == 0
    assert command("dead", "list", "demo").code == 0


@pytest.mark.usefixtures("buried")
def test_dead_list_says_what_a_queue_that_cannot_page_leaves_out(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brrr_core.backend.memory.queue.MemoryLetters", lambda *_: None)
    monkeypatch.setattr("brrr_cli.commands.dead.LOOKED_AT", 2)

    assert "only its 2 oldest dead letters of 3" in command("dead", "list", "demo", "--all").err
    assert command("dead", "drop", "demo", "--reason", "two", "-y").code == 1
