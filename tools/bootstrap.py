"""Make `.venv` with uv in it, on a machine that has only Python: `python3 tools/bootstrap.py`.

This file runs on every Python 3 since 3.6, so that a user with an old Python gets advice instead of a syntax error.
It installs the version of uv that pyproject.toml pins among its development tools.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = str(VENV / "bin" / "python")


def main() -> None:
    """Make `.venv` if it is missing, too old or broken; otherwise keep it."""
    refuse_old_python()
    if succeeds(PYTHON, "-c", f"import sys; sys.exit(sys.version_info < {OLDEST})") and succeeds(
        PYTHON, "-m", "uv", "--version"
    ):
        return
    uv = f"uv=={pinned_uv()}"
    print(f"Making .venv with {described(sys.executable)}, and {uv} in it", flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    failure = make_venv(uv)
    if failure:
        shutil.rmtree(VENV, ignore_errors=True)
        sys.exit(failure)


def refuse_old_python() -> None:
    """Stop with advice if this interpreter is too old for the project."""
    if sys.version_info >= OLDEST:
        return
    newer = [name for name in ("python3.14", "python3.13", "python3.12", "python3.11") if shutil.which(name)]
    sys.exit(
        f"This project needs Python {OLDEST[0]}.{OLDEST[1]} or newer; {described(sys.executable)} is older. "
        + (f"Run make PYTHON={newer[0]} …" if newer else "Install a newer one and run make PYTHON=/path/to/it …")
    )


def pinned_uv() -> str:
    """Return the version in the line `"uv==…"` of pyproject.toml."""
    pin = re.search(r'^ *"uv==([^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    if pin is None:
        sys.exit('pyproject.toml has no line "uv==…". Add one to its development tools.')
    return pin.group(1)


def make_venv(uv: str) -> str:
    """Make the environment with the first tool that this Python has. Return the error message, empty on success."""
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", uv]
    if has("venv") and has("ensurepip"):
        made = run(sys.executable, "-m", "venv", str(VENV))
    elif has("venv") and has("pip"):
        # Debian without python3-venv: the pip of this interpreter can install into the environment.
        made = run(sys.executable, "-m", "venv", "--without-pip", str(VENV))
        pip[:3] = [sys.executable, "-m", "pip", "--python", PYTHON]
    elif has("virtualenv"):
        made = run(sys.executable, "-m", "virtualenv", "--quiet", str(VENV))
    else:
        return (
            f"{described(sys.executable)} cannot make an environment: it lacks venv, or both ensurepip and pip. On "
            "Debian and Ubuntu, run apt-get install python3-venv. Elsewhere, choose another Python with "
            "make PYTHON=/path/to/it …"
        )
    if not made:
        return f"{described(sys.executable)} could not make {VENV}. Its own message is above."
    if not run(*pip):
        return f"pip could not install {uv}. Its own message is above. To use a mirror, set PIP_INDEX_URL."
    return ""


def described(python: str) -> str:
    """Return the version and path of an interpreter."""
    return f"Python {'.'.join(map(str, sys.version_info[:3]))} ({python})"


def has(module: str) -> bool:
    """Whether this interpreter can import the module."""
    return importlib.util.find_spec(module) is not None


def succeeds(*command: str) -> bool:
    """Run a command silently, and return if it exists and succeeds."""
    try:
        return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def run(*command: str) -> bool:
    """Run a command with its output shown, and return if it succeeds."""
    return subprocess.call(command) == 0


if __name__ == "__main__":
    main()
