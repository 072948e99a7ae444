"""`python -m brrr_core` runs the command of brrr-cli, or says how to install it."""

import subprocess
import sys

BLOCKED = """
import runpy, sys

class Without:
    def find_spec(self, name, *_):
        if name == "{blocked}":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Without())
sys.argv = ["brrr", "backends"]
runpy.run_module("brrr_core", run_name="__main__")
"""


def without(blocked: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in a process that cannot import a module."""
    command = [sys.executable, "-c", BLOCKED.format(blocked=blocked)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_missing_command_line_is_one_line_hint() -> None:
    ended = without("brrr_cli")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == 'brrr: the command line is an extra; install it: pip install "brrr-core[cli]"\n'


def test_other_missing_module_is_not_hidden_by_hint() -> None:
    ended = without("bencode2")

    assert ended.returncode == 1
    assert "brrr-core[cli]" not in ended.stderr
    assert "bencode2" in ended.stderr


def test_module_is_the_command() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "brrr_core", "dead", "--nosuch"], capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "See brrr dead --help." in ended.stderr
