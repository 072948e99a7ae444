"""Environments of the peers under `build/peers`: each peer has its own, made when it is first needed."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["FOLDER", "ROOT", "node_package", "package_folder", "python_of", "versions_of"]

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "build" / "peers"
UV: Final = (sys.executable, "-m", "uv")


def python_of(name: str, requirements: Sequence[str]) -> Path:
    """Return the interpreter of an environment, after installing `requirements` if they changed."""
    folder = FOLDER / name
    stamp = folder / "requirements.txt"
    wanted = "\n".join(requirements)
    python = folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"making the environment of {name}", flush=True)
        _run(*UV, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
        _run(*UV, "pip", "install", "--quiet", "--python", str(python), *requirements)
        stamp.write_text(wanted)
    return python


def node_package(requirement: str) -> Path:
    """Return the folder of a package of npm, such as `@scope/name@^1.7`, after installing it if it is missing."""
    name = requirement.rpartition("@")[0]
    folder = FOLDER / "npm" / name.replace("/", "-")
    package = folder / "node_modules" / name
    if not package.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise FileNotFoundError(f"npm is not on PATH; it installs {name}")
        print(f"installing {requirement}", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        _run(npm, "install", "--silent", "--ignore-scripts", "--no-audit", "--prefix", str(folder), requirement)
    return package


def package_folder(name: str, package: str) -> Path:
    """Return the folder of an importable package in the environment `name`. Raises `FileNotFoundError`."""
    for found in (FOLDER / name).glob(f"lib/python*/site-packages/{package}"):
        return found
    raise FileNotFoundError(f"the environment {name} has no package {package}")


def versions_of(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of some installed packages."""
    done = _run(*UV, "pip", "list", "--quiet", "--format", "json", "--python", str(python))
    installed = {each["name"]: each["version"] for each in json.loads(done)}
    return {name: installed[name] for name in packages if name in installed}


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise ChildProcessError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout
