"""Run every check of the code, whichever fails, and say at the end which did: `make check`."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
BIN: Final = Path(sys.executable).parent

CHECKS: Final = {
    "format": ("ruff", "format", "--check", "--quiet", "--diff"),
    "lint": ("ruff", "check", "--quiet"),
    "mypy": ("mypy",),
    "pyright": ("pyright",),
    "import rules": ("lint-imports", "--no-cache", "--no-logo"),
    "lock file": ("uv", "lock", "--check", "--quiet"),
}

# Pyright's version is pinned with its package, which holds the program and, by the extra, a node to run it: nothing is
# fetched, and no newer version is asked for.
ENVIRONMENT: Final = {
    "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
    "UV_PROJECT_ENVIRONMENT": str(BIN.parent),
    "UV_PYTHON": sys.executable,
}


def main() -> int:
    """The number of checks that failed."""
    failed: list[str] = []
    for name, (tool, *arguments) in CHECKS.items():
        begin = time.perf_counter()
        print(f"── {name}: {tool} {' '.join(arguments)}".rstrip(), flush=True)
        ended = subprocess.run([BIN / tool, *arguments], cwd=ROOT, env={**os.environ, **ENVIRONMENT}, check=False)
        outcome = "ok" if ended.returncode == 0 else f"FAILED, exit status {ended.returncode}"
        print(f"   {name}: {outcome} ({time.perf_counter() - begin:.1f} s)", flush=True)
        if ended.returncode != 0:
            failed.append(name)
    print(f"Checks failed: {', '.join(failed)}" if failed else f"All {len(CHECKS)} checks passed", flush=True)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
