"""Change the address of the repository in every file that has it: `make repository URL=https://github.com/me/brrr`.

The address is the value `Repository` in `[project.urls]` of each pyproject.toml. The other addresses there begin with
it, and so do the links of a README on the package index.
"""

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tools.distributions import CORE, ROOT, read_distributions

ADDRESS: Final = re.compile(r"https://[\w.-]+(/[\w.-]+)+")


def main(arguments: list[str] | None = None) -> int:
    """Change the address to the given one, and return the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1 or not ADDRESS.fullmatch(given[0]):
        print("Name one address, without a slash at its end: make repository URL=https://github.com/me/brrr")
        return 2
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    old = read_distributions()[CORE].repository
    for file in change((ROOT / name for name in listed.split("\0") if name), old, given[0]):
        print(file.relative_to(ROOT))
    return 0


def change(files: Iterable[Path], old: str, new: str) -> list[Path]:
    """Replace the address in these files, and return those that had it."""
    whole = re.compile(rf"{re.escape(old)}(?![\w-])")
    changed: list[Path] = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        if whole.search(text):
            file.write_text(whole.sub(new, text), encoding="utf-8")
            changed.append(file)
    return changed


if __name__ == "__main__":
    sys.exit(main())
