"""Run all checks of the code and report those that failed at the end: `make check`."""

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
    """Run the checks and return the number of failed ones."""
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
