"""The commands of README.md run its handlers."""

import re
import shlex
import signal
from pathlib import Path
from typing import Any

Shell = Any
README = (Path(__file__).parents[2] / "README.md").read_text()


def test_commands_of_the_readme_run_its_handlers(shell: Shell) -> None:
    (handlers,) = re.findall(r"```py\n(.*?)```", README, re.DOTALL)
    (commands,) = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    export, worker, schedule = (shlex.split(line) for line in commands.splitlines())
    (shell.folder / "tasks.py").write_text(handlers)
    variable, _, url = export[1].partition("=")
    shell.environ[variable] = url

    running = shell.start(shell.program, *worker[1:])
    said = shell(*schedule[1:])
    running.signal(signal.SIGTERM)

    assert (said.returncode, said.stdout) == (0, "89\n")
    assert running.ended() == 0
    assert worker[0] == schedule[0] == "brrr"
