"""The distributions as a user receives them: built, installed by pip, and run outside the checkout."""

import configparser
import os
import re
import shutil
import subprocess
import tomllib
import venv
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).resolve().parents[3]
DISTRIBUTIONS = {
    tomllib.loads(project.read_text())["project"]["name"]: tomllib.loads(project.read_text())["project"]
    for project in [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]
}


def ran(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command without the variables of the checkout's environment, and capture its output."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "UV_"))}
    return subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True, check=False, timeout=300)


def output(*command: str | Path, cwd: Path) -> str:
    """Return the standard output of a command that must succeed."""
    ended = ran(*command, cwd=cwd)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="session")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheels without extras and without brrr-cli into an empty environment by pip.

    Returns:
        Its interpreter.
    """
    home = tmp_path_factory.mktemp("user") / "venv"
    venv.create(home, with_pip=True)
    interpreter = home / "bin" / "python"
    wheels = sorted(set(built.glob("*.whl")) - set(built.glob("brrr_cli-*")))
    output(interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wheels, cwd=home)
    return interpreter


def wheel(built: Path, name: str) -> zipfile.Path:
    [path] = built.glob(f"{name.replace('-', '_')}-*-py3-none-any.whl")
    return zipfile.Path(path)


def files(built: Path, name: str) -> list[str]:
    return wheel(built, name).root.namelist()


def scripts(built: Path, name: str) -> list[str]:
    """Return the names of the commands that a wheel installs."""
    parser = configparser.ConfigParser(delimiters=("=",))
    for path in files(built, name):
        if path.endswith(".dist-info/entry_points.txt"):
            parser.read_string((wheel(built, name) / path).read_text(encoding="utf-8"))
    return list(parser["console_scripts"]) if "console_scripts" in parser else []


def metadata(built: Path, name: str) -> Message:
    [path] = [path for path in files(built, name) if path.endswith(".dist-info/METADATA")]
    return HeaderParser().parsestr((wheel(built, name) / path).read_text(encoding="utf-8"))


def test_every_distribution_has_wheel_and_archive(built: Path) -> None:
    stems = {f"{name.replace('-', '_')}-{project['version']}" for name, project in DISTRIBUTIONS.items()}
    made = {path.name for path in built.iterdir() if not path.name.startswith(".")}

    assert made == {f"{stem}-py3-none-any.whl" for stem in stems} | {f"{stem}.tar.gz" for stem in stems}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_wheel_contains_only_typed_licensed_package(built: Path, name: str) -> None:
    package = name.replace("-", "_")
    held = files(built, name)

    assert f"{package}/py.typed" in held
    assert [path for path in held if path.endswith(".dist-info/licenses/LICENSE")]
    assert {path.partition("/")[0].partition("-")[0] for path in held} == {package}
    assert [path for path in held if re.search(r"(^|/)tests?/|conftest|__pycache__", path)] == []


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_every_requirement_has_lower_and_upper_bound(built: Path, name: str) -> None:
    required = [Requirement(text) for text in metadata(built, name).get_all("Requires-Dist", [])]

    assert required
    unbounded = [
        str(requirement)
        for requirement in required
        if {specifier.operator for specifier in requirement.specifier} != {">=", "<"}
    ]
    assert unbounded == []


@pytest.mark.parametrize("name", sorted(set(DISTRIBUTIONS) - {"brrr-core"}))
def test_plugin_accepts_this_core_and_not_the_next(built: Path, name: str) -> None:
    [core] = [
        requirement
        for requirement in map(Requirement, metadata(built, name).get_all("Requires-Dist", []))
        if requirement.name == "brrr-core"
    ]
    major, minor = map(int, DISTRIBUTIONS["brrr-core"]["version"].split(".")[:2])

    assert core.specifier.contains(DISTRIBUTIONS["brrr-core"]["version"])
    assert not core.specifier.contains(f"{major}.{minor + 1}")


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_metadata_matches_project(built: Path, name: str) -> None:
    said = metadata(built, name)

    assert said["Requires-Python"] == ">=3.11"
    assert said["License-Expression"] == "Apache-2.0"
    assert said["Summary"] == DISTRIBUTIONS[name]["description"]


def test_command_is_the_script_of_brrr_cli_alone(built: Path) -> None:
    assert {name: found for name in DISTRIBUTIONS if (found := scripts(built, name))} == {"brrr-cli": ["brrr"]}


def test_installed_package_runs(python: Path, tmp_path: Path) -> None:
    program = "import brrr_core, brrr_sqlite; print(brrr_core.__file__, brrr_sqlite.__file__, sep='\\n')"

    for place in output(python, "-I", "-c", program, cwd=tmp_path).splitlines():
        assert Path(place).is_relative_to(python.parent.parent)


def test_first_program_of_user_runs(python: Path, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("seed.py"), tmp_path)

    first = output(python, "-I", "-W", "error", "seed.py", cwd=tmp_path)
    again = output(python, "-I", "-W", "error", "seed.py", cwd=tmp_path)

    assert first.splitlines() == ["89", "Hello, John!"]
    assert again == first
    assert (tmp_path / "brrr.db").exists()


def test_command_without_extra_prints_one_line_hint(python: Path, tmp_path: Path) -> None:
    ended = ran(python, "-I", "-m", "brrr_core", "backends", cwd=tmp_path)

    assert not python.with_name("brrr").exists()
    assert ended.returncode == 2
    assert ended.stdout == ""
    [hint] = ended.stderr.splitlines()
    assert "pip install" in hint
    assert "brrr-core[cli]" in hint
