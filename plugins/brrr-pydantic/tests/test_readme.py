"""The program in README.md runs as printed."""

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_readme_program_prints_promised_output(tmp_path: Path) -> None:
    (program,) = re.findall(r"```py\n(.*?)```", README, re.DOTALL)
    (promised,) = re.findall(r"\)  # (order=.*)", program)
    (tmp_path / "program.py").write_text(program)

    ran = subprocess.run([sys.executable, tmp_path / "program.py"], capture_output=True, text=True, check=False)

    assert ran.stdout.strip() == promised, ran.stderr
