"""Run all checks of the code and report those that failed at the end: `make check`."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
BIN: Final = Path(sys.executable).parent

CHECKS: Final = {
    "mypy": ("mypy",),
    "pyright": ("pyright",),
    "format": ("ruff", "format", "--check", "--quiet", "--diff"),
    "lint": ("ruff", "check", "--quiet"),
    "import rules": ("lint-imports", "--no-cache", "--no-logo"),
    "public API": ("python", "tools/public_api.py", "--check"),
    "spelling": ("codespell",),
    "words": ("python", "tools/words.py"),
    "lock file": ("uv", "lock", "--check", "--quiet"),
}

# The pinned package of pyright contains the program, and its extra a node to run it. Nothing is downloaded, and the
# warning about newer versions is off.
ENVIRONMENT: Final = {
    "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
    "UV_PROJECT_ENVIRONMENT": str(BIN.parent),
    "UV_PYTHON": sys.executable,
}


def main() -> int:
    """Run the checks, as many at a time as there are cores, and return the number of failed ones."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        passed = list(pool.map(check, CHECKS))  # in the order of the table, so the long ones begin first
    failed = [name for name, ok in zip(CHECKS, passed, strict=True) if not ok]
    print(f"Checks failed: {', '.join(failed)}" if failed else f"All {len(CHECKS)} checks passed", flush=True)
    return len(failed)


def check(name: str) -> bool:
    """Run a check, print its output when it has ended, and return whether it passed."""
    tool, *arguments = CHECKS[name]
    begin = time.perf_counter()
    ended = subprocess.run(
        [BIN / tool, *arguments],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    outcome = "ok" if ended.returncode == 0 else f"FAILED, exit status {ended.returncode}"
    title = f"── {name}: {tool} {' '.join(arguments)}".rstrip()
    print(f"{title}\n{ended.stdout}   {name}: {outcome} ({time.perf_counter() - begin:.1f} s)\n", end="", flush=True)
    return ended.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
