"""The program in README.md works, with an expression for which a test need not wait until 3:30."""

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_program_of_the_readme_runs_its_task(tmp_path: Path) -> None:
    (program,) = re.findall(r"```py\n(.*?)```", README, re.DOTALL)
    assert program.count('"30 3 * * *"') == 1
    (tmp_path / "program.py").write_text(program.replace('"30 3 * * *"', '"* * * * * *"'))

    with subprocess.Popen(
        [sys.executable, "-u", tmp_path / "program.py"], stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        said = running.stdout.readline()
        running.terminate()

    assert re.fullmatch(r"report of \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n", said)
