"""`brrr explain` and `brrr redrive`, as a user runs them."""

import asyncio
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

import brrr_core
from brrr_core.errors import BuriedError

Command = Callable[..., str]

TASKS = """
import brrr_core as brrr


@brrr.handler_no_arg
async def leaf(n: int) -> int:
    if n == 3:
        raise ValueError("broken <b>leaf</b> \\u202e")
    return n


@brrr.handler(replay=True)
async def parent(app: brrr.ActiveWorker, n: int) -> int:
    return sum(await app.gather(*map(app.call(leaf), range(n))))
"""


@pytest.fixture
def brrr(tmp_path: Path) -> Command:
    (tmp_path / "tasks.py").write_text(TASKS)
    environment = {**os.environ, "BRRR_QUEUE": f"sqlite:///{tmp_path}/brrr.db", "PYTHONPATH": str(tmp_path)}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "brrr_cli", *arguments],
            cwd=tmp_path,
            check=False,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def run_until_dead(brrr: Command, folder: Path) -> None:
    """Schedule a parent whose leaf is dead-lettered."""
    brrr("schedule", "parent", "30", "--topic", "demo")
    tasks = runpy.run_path(str(folder / "tasks.py"))

    async def work() -> None:
        policy = brrr_core.Policy(max_attempts=1, grace=0)
        async with brrr_core.serve(f"sqlite:///{folder}/brrr.db", policy=policy) as connection:
            handlers = {name: tasks[name] for name in ("leaf", "parent")}
            app = brrr_core.AppWorker(handlers=handlers, codec="json", connection=connection)
            async with asyncio.TaskGroup() as loops:
                loops.create_task(connection.loop("demo", app.handle))
                with pytest.raises(BuriedError):
                    await app.result("parent", topic="demo", timeout=60)(30)
                connection.stop()

    asyncio.run(work())


def test_tree_names_the_dead_leaf_and_summarizes_the_others(brrr: Command, tmp_path: Path) -> None:
    run_until_dead(brrr, tmp_path)
    drawings = ("--svg", "x.svg", "--mermaid", "x.mmd")
    shown = brrr("explain", "parent", "30", "--handlers", "tasks", "--width", "3", *drawings).splitlines()
    assert shown[0] == "… parent [30]: waiting for 1 of 30 calls"
    assert shown[1] == r"├── ☠ leaf [3]: dead-lettered in delivery 1: ValueError: broken <b>leaf</b> \u202e"
    assert shown[2:5] == ["├── ✓ leaf [0]: done", "├── ✓ leaf [1]: done", "└── 27 more: 27 done"]
    assert shown[-1] == "  Fix the cause, then run: brrr dead redrive demo."

    drawing = ElementTree.fromstring((tmp_path / "x.svg").read_text())
    texts = [element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert len(texts) == 5
    assert "broken <b>leaf</b> �" in (texts[1] or "")  # text, not markup, and no character that turns others around
    mermaid = (tmp_path / "x.mmd").read_text()
    assert "#60;b#62;leaf#60;/b#62;" in mermaid
    assert "<b>" not in mermaid


def test_json_has_all_nodes(brrr: Command, tmp_path: Path) -> None:
    run_until_dead(brrr, tmp_path)
    found = json.loads(brrr("explain", "parent", "30", "--handlers", "tasks", "--json"))
    assert found["states"] == {"waiting": 1, "done": 29, "dead-lettered": 1}
    (dead,) = [node for node in found["nodes"] if node["problem"]]
    assert (dead["task_name"], dead["arguments"], dead["topic"], dead["attempt"]) == ("leaf", "[3]", "demo", 1)


def test_redrive_puts_the_dead_leaf_and_reports_calls_with_unknown_children(brrr: Command, tmp_path: Path) -> None:
    run_until_dead(brrr, tmp_path)
    done = json.loads(brrr("redrive", "parent", "30", "--json"))
    assert (len(done["put"]), len(done["unknown"])) == (0, 1)
    assert brrr("redrive", "parent", "30", "--handlers", "tasks").startswith("put leaf [3] on demo: call ")
    assert json.loads(brrr("queue", "demo", "--json"))["topics"][0]["ready"] == 1


def test_graph_without_handlers_is_one_call(brrr: Command, tmp_path: Path) -> None:
    brrr("schedule", "parent", "30", "--topic", "demo")
    assert brrr("explain", "parent", "30").startswith("▶ parent [30]: scheduled since ")


def test_redrive_reports_calls_without_a_known_topic(brrr: Command) -> None:
    brrr("schedule", "parent", "30", "--topic", "demo")
    done = json.loads(brrr("redrive", "parent", "30", "--handlers", "tasks", "--json"))
    assert (len(done["put"]), len(done["without_topic"])) == (0, 1)
    done = json.loads(brrr("redrive", "parent", "30", "--handlers", "tasks", "--topic", "demo", "--json"))
    assert (len(done["put"]), len(done["without_topic"])) == (1, 0)


def test_forget_deletes_a_call_and_a_dry_run_only_counts_it(brrr: Command) -> None:
    brrr("schedule", "leaf", "1", "--topic", "demo")
    brrr("complete", "leaf", "1", "--value", "5")
    assert brrr("forget", "leaf", "1", "--dry-run") == "would forget 1 calls, and kept 0\n"
    assert brrr("result", "leaf", "1") == "5\n"
    found = json.loads(brrr("forget", "leaf", "1", "--handlers", "tasks", "--tree", "--json"))
    assert (len(found["forgotten"]), found["kept"], found["unknown"]) == (1, {}, [])
    assert "unknown" in brrr("status", "leaf", "1")
