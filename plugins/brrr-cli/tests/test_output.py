"""Any value becomes JSON, tables in a pipe are complete, and a terminal receives no control characters."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from brrr_cli.errors import report
from brrr_cli.output import live_lines, note, shown, write_json, write_line, write_table
from brrr_core.errors import BrrrError


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"a": [1, 2.5, None, True, "é"]}, '{"a": [1, 2.5, null, true, "é"]}'),
        (b"\x00\xff", '"AP8="'),
        (float("nan"), "null"),
        ({1: "a", None: "b", b"\xff": "c"}, '{"1": "a", "None": "b", "/w==": "c"}'),
        ((1, {2}), "[1, [2]]"),
        (datetime(2026, 1, 2, tzinfo=UTC), '"2026-01-02T00:00:00+00:00"'),
        (Decimal("1.50"), '"1.50"'),
        ("two\nlines", r'"two\nlines"'),
    ],
)
def test_any_value_becomes_one_line_of_json(value: object, written: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(value)

    out = capsys.readouterr().out
    assert out == f"{written}\n"
    json.loads(out)


def test_table_in_pipe_is_never_cut_or_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(("NAME", "REASON"), [("a", "word " * 100), ("b", "[red]x[/red] :smile:"), ("世\n界", "wide")])

    head, first, second, third = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "REASON"]
    assert first.split() == ["a", *["word"] * 100]
    assert second.split() == ["b", "[red]x[/red]", ":smile:"]
    assert (head.index("REASON"), third) == (8, r"世\n界  wide")


def test_live_line_is_in_a_pipe_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out"
    with path.open("w") as out, monkeypatch.context() as patch, live_lines() as lines:
        patch.setattr("sys.stdout", out)
        lines.write("a\x1b[2Jb", style="red")
        lines.show("one line")

        assert path.read_text() == "a\\x1b[2Jb\n"


def test_live_lines_have_colours_and_a_moving_line_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with live_lines() as lines:
        lines.show("one line")
        lines.write("[b]passed", style="green")

    out = capsys.readouterr().out
    assert "\x1b[32m[b]passed\x1b[0m\n" in out
    assert "one line" in out


def test_control_characters_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    write_line("a\x1b[2Jb")
    note("a\x1b[2Jb")
    write_table(("X",), [("a\x1b[2Jb",)])

    said = capsys.readouterr()
    assert said.out.split() == [r"a\x1b[2Jb", "X", r"a\x1b[2Jb"]
    assert said.err == "a\\x1b[2Jb\n"


def test_json_escapes_characters_that_a_terminal_may_obey(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"x": "\x9b2J \x7f \u202e \u2028 é ☃"}
    write_json(value)
    report(BrrrError("a\x1b[2Jb", remedy="c\x9bd"), [])

    said = capsys.readouterr()
    assert json.loads(said.out) == value
    assert said.out == '{"x": "\\u009b2J \\u007f \\u202e \\u2028 é ☃"}\n'
    assert said.err == "brrr: [BRRR-00] a\\x1b[2Jb. c\\x9bd\n"


def test_printable_bytes_are_shown_as_text() -> None:
    assert [shown(b"[1]"), shown(b""), shown(b"\xff"), shown(b"\x1b")] == ["[1]", "", "base64:/w==", "base64:Gw=="]


def test_start_of_a_worker_does_not_load_rich() -> None:
    program = """
import sys
from brrr_cli.program import make_app, parse
parse(make_app(), ["worker", "tasks", "--topic", "demo"])
print("cyclopts" in sys.modules, "rich" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ran.stdout == "True False\n"
