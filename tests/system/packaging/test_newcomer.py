"""Follow `docs/how-to/write-a-backend.md` word for word on a fresh machine: every command, file and output.

The reader has Python, git, and an index with the packages of this checkout. The address of the repository leads to the
template of this checkout.

The commands of the page's `sh` blocks run in their order, in one shell, in an empty folder; a block under a comment
`<!-- file: NAME -->` is saved as that file; a `text` block holds lines that the commands above it print, in that order,
and `…` matches any text.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.distributions import CORE, read_distributions

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs/how-to/write-a-backend.md"
BIN = Path(sys.executable).parent
BLOCK = re.compile(
    r"(?:^<!-- file: (?P<file>\S+) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
STEP = re.compile(r"^@@ (\d+) ([\d.]+)$", re.MULTILINE)
MINUTES = 20


@dataclass(frozen=True)
class Step:
    """One step of the page.

    Attributes:
        commands: The commands to type.
        printed: The output that the page shows.
        line: The line of the page.
    """

    commands: str
    printed: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Done:
    """The output of a step, and its start time in unix seconds."""

    step: Step
    output: str
    began: float


def steps(page: str) -> list[Step]:
    """Return the steps of a page."""
    found: list[Step] = []
    before = None
    for block in BLOCK.finditer(page):
        line, text = page.count("\n", 0, block.start()) + 1, block["text"]
        if block["file"]:
            found.append(
                Step(f"cat > {shlex.quote(block['file'])} <<'END OF THE FILE'\n{text}END OF THE FILE\n", (), line)
            )
        elif block["language"] == "sh":
            found.append(Step(text, (), line))
        elif block["language"] == "text" and before == "sh":
            found[-1] = Step(found[-1].commands, tuple(text.splitlines()), found[-1].line)
        before = block["language"]
    return found


def follow(page: str, folder: Path, environment: Mapping[str, str]) -> list[Done]:
    """Run the steps of a page, and check that each prints the lines that the page shows."""
    todo = steps(page)
    script = "".join(f'\necho; echo "@@ {number} $(date +%s.%N)"\n{step.commands}' for number, step in enumerate(todo))
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60 * MINUTES,
    )
    _, *parts = STEP.split(ended.stdout)
    numbers, times, outputs = parts[::3], parts[1::3], parts[2::3]
    done = [Done(todo[int(n)], out, float(at)) for n, at, out in zip(numbers, times, outputs, strict=True)]
    assert ended.returncode == 0, f"line {done[-1].step.line} of the page fails:\n{done[-1].output[-6000:]}"
    for each in done:
        missing = not_printed(each.step.printed, each.output)
        assert not missing, f"line {each.step.line} of the page prints no line like {missing!r}:\n{each.output}"
    return done


def not_printed(promised: tuple[str, ...], output: str) -> str | None:
    """Return the first expected line that the output lacks, or has in another order."""
    lines = iter(" ".join(line.split()) for line in output.splitlines())
    for promise in promised:
        pattern = re.escape(" ".join(promise.split())).replace("…", ".*")
        if not any(re.fullmatch(pattern, line) for line in lines):
            return promise
    return None


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheels of brrr-core, brrr-cli and the contract kit from this checkout into a folder."""
    folder = tmp_path_factory.mktemp("dist")
    for name in ("brrr-core", "brrr-cli", "brrr-contract-kit"):
        command = [BIN / "uv", "build", "--quiet", "--wheel", "--package", name, "--out-dir", folder]
        subprocess.run([*command, "--python", sys.executable], cwd=ROOT, check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the repository of brrr as its address gives it: the template of this checkout, released."""
    folder = tmp_path_factory.mktemp("published")
    core = read_distributions()[CORE]
    repository = folder / f"{core.repository.rpartition('/')[2]}.git"
    shutil.copytree(ROOT / "templates/backend", repository / "templates/backend")
    shutil.copy(ROOT / "copier.yml", repository)
    own = ["-c", "user.name=x", "-c", "user.email=x@x"]
    for command in (["init", "-q"], ["add", "-A"], [*own, "commit", "-qm", "x"], ["tag", f"v{core.version}"]):
        subprocess.run(["git", *command], cwd=repository, check=True)
    return folder


def script(path: Path, *command: str) -> None:
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)


@pytest.fixture
def newcomer(wheels: Path, published: Path, tmp_path: Path) -> dict[str, str]:
    """Return the environment of a reader with Python and git, whose package index has these wheels."""
    tools = tmp_path / "tools"
    tools.mkdir()
    script(tools / "python3", getattr(sys, "_base_executable", sys.executable))
    owner = read_distributions()[CORE].repository.rpartition("/")[0]
    git = {"user.name": "Ada", "user.email": "ada@example.org", f"url.{published.as_uri()}/.insteadOf": f"{owner}/"}
    ours = ("PYTHON", "VIRTUAL_ENV", "UV_", "BRRR_", "PYTEST")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    return {
        **kept,
        "PATH": f"{tools}:/usr/local/bin:/usr/bin:/bin",
        "GIT_CONFIG_COUNT": str(len(git)),
        **{f"GIT_CONFIG_KEY_{number}": name for number, name in enumerate(git)},
        **{f"GIT_CONFIG_VALUE_{number}": value for number, value in enumerate(git.values())},
        "XDG_CACHE_HOME": str(tmp_path / "cache"),  # copier keeps a copy of each repository there
        "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(Path("~/.cache/pip").expanduser())),
        "PIP_FIND_LINKS": " ".join(filter(None, [os.environ.get("PIP_FIND_LINKS"), wheels.as_uri()])),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "NO_COLOR": "1",
        "COLUMNS": "400",
    }


def test_page_leads_from_empty_folder_to_green_kit(
    newcomer: dict[str, str], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    desk = tmp_path / "desk"
    desk.mkdir()

    done = follow(PAGE.read_text(), desk, newcomer)

    [green] = [
        number
        for number, each in enumerate(done)
        if "pytest -n auto\n" in each.step.commands and "copier" in each.step.commands
    ]
    seconds = done[green + 1].began - done[green].began
    record_property("seconds from copier copy to a green kit", round(seconds, 1))
    print(f"from an empty folder to a green kit: {seconds:.0f} s")  # noqa: T201 - the figure that the page lives by
    assert installed(desk / "theirs", "brrr_example")
    # Other packages of the same versions could come from an index.
    assert contents(installed(desk / "theirs", "brrr_core")) == contents(ROOT / "brrr_core")
    command_line = ROOT / "plugins/brrr-cli/src/brrr_cli"
    assert contents(installed(desk / "theirs", "brrr_cli")) == contents(command_line)
    kit = ROOT / "plugins/brrr-contract-kit/src/brrr_contract_kit"
    assert contents(installed(desk / "venv", "brrr_contract_kit")) == contents(kit)


def installed(environment: Path, package: str) -> Path:
    """Return the folder of a package that an environment contains."""
    command = [environment / "bin/python", "-I", "-c", f"import {package}; print({package}.__file__)"]
    folder = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout).parent
    assert folder.is_relative_to(environment)
    return folder


def contents(package: Path) -> dict[Path, bytes]:
    return {path.relative_to(package): path.read_bytes() for path in package.rglob("*.py")}


PAGE_OF_STEPS = """\
```sh
word=hello
```

<!-- file: a.txt -->
```py
first
second
```

```sh
cat a.txt
echo "$word" you
```

```text
second
hel… you
```
"""


def test_blocks_share_one_shell_and_files_are_saved(tmp_path: Path) -> None:
    done = follow(PAGE_OF_STEPS, tmp_path, os.environ)

    assert done[-1].output.split() == ["first", "second", "hello", "you"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("hel… you", "bye…", "line 11 of the page prints no line like 'bye…'"),
        ("second\nhel… you", "hel… you\nsecond", "prints no line like 'second'"),
        ("cat a.txt", "cat b.txt", "line 11 of the page fails"),
        ("cat a.txt", "false | true", "line 11 of the page fails"),
    ],
)
def test_outdated_page_fails(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(message)):
        follow(PAGE_OF_STEPS.replace(old, new), tmp_path, os.environ)
