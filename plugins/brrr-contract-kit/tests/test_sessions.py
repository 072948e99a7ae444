"""A pytest session of test classes: the lifespan, the opening before the rules, and one failure instead of many."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
import asyncio
import os
import pytest
from contextlib import asynccontextmanager
from pathlib import Path
from brrr_contract_kit import BackendContract, CacheContract, QueueContract, StoreContract
from brrr_core.backend.memory import MemoryBackend
from brrr_core.backend import BackendUrl
from brrr_core.errors import BackendUnavailableError
from brrr_core.plugins.builtin import MEMORY

HERE = Path(__file__).parent
"""

LIFESPAN = (
    HEAD
    + """
@asynccontextmanager
async def server():
    async with asyncio.TaskGroup(), asyncio.timeout(600):
        with (HERE / "log").open("a") as log:
            log.write(f"start {os.getpid()}\\n")
        yield VALUE
        with (HERE / "log").open("a") as log:
            log.write(f"stop {os.getpid()}\\n")

class Served:
    lifespan = staticmethod(server)
"""
)

CLASSES = """
class TestCache(Served, CacheContract): ...
class TestStore(Served, StoreContract): ...
"""

SOME = ("-k", "COUNT-01 or SWAP-01")


class Session:
    """A separate pytest run, in a folder outside the configuration of this checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, code: str, *arguments: str) -> str:
        (self.folder / "test_kit.py").write_text(code)
        command = [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", *arguments]
        environment = {"BRRR_CONTRACT_PARTIAL": "1"}
        ran = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        return ran.stdout

    def log(self) -> list[str]:
        """Return the words of the lifespan, without the process ids."""
        return [line.split()[0] for line in (self.folder / "log").read_text().splitlines()]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path)


def test_classes_share_one_lifespan_whose_value_is_the_url(session: Session) -> None:
    out = session(LIFESPAN.replace("VALUE", "'memory:served'") + CLASSES, *SOME)

    assert "2 passed" in out, out
    assert session.log() == ["start", "stop"]


def test_each_worker_of_xdist_has_a_lifespan(session: Session) -> None:
    out = session(LIFESPAN.replace("VALUE", "'memory:served'") + CLASSES, "-n", "2", "--dist", "each", *SOME)

    assert "4 passed" in out, out
    assert sorted(session.log()) == ["start", "start", "stop", "stop"]


@pytest.mark.parametrize(
    "fixture",
    [
        "def url(self, started): return f'memory:{started}'",
        "def make_backend(self, started): return lambda: made(started)",
    ],
)
def test_fixtures_use_the_value_of_the_lifespan(session: Session, fixture: str) -> None:
    made = """
def made(name):
    backend = MemoryBackend(BackendUrl("memory", path=name))
    backend.manifest = MEMORY
    return backend
"""
    code = LIFESPAN.replace("VALUE", "'name'") + f"    @pytest.fixture\n    {fixture}\n" + made
    out = session(code + CLASSES, *SOME)

    assert "2 passed" in out, out


def test_failed_lifespan_is_one_failure(session: Session) -> None:
    out = session(LIFESPAN.replace("VALUE", "1 / 0") + CLASSES)

    assert "ZeroDivisionError" in out
    assert re.search(r"^\d+ skipped, 1 error in", out, re.MULTILINE), out


def test_failed_end_of_the_lifespan_is_an_error(session: Session) -> None:
    code = LIFESPAN.replace("VALUE", "'memory:'").replace("stop {os.getpid()}", "{1 / 0}")
    out = session(code + CLASSES, *SOME)

    assert re.search("^2 passed, .*1 error in", out, re.MULTILINE), out


def test_unavailable_server_is_one_failure_for_all_classes(session: Session) -> None:
    away = """
class Away(MemoryBackend):
    manifest = MEMORY
    async def start(self): raise BackendUnavailableError("nothing answers at host:1", remedy="Start the server.")

class Served:
    @pytest.fixture
    def make_backend(self): return lambda: Away(BackendUrl("memory"))
"""
    out = session(HEAD + away + CLASSES + "class TestBackend(Served, BackendContract): ...")

    assert re.search(r"^1 failed, \d+ skipped in", out, re.MULTILINE), out
    assert "not run: [BRRR-BACKEND-01] nothing answers at host:1. Start the server." in out


def test_setup_first_sets_up_each_new_url(session: Session) -> None:
    served = """
class Served:
    setup_first = True
    @pytest.fixture
    def url(self, tmp_path): return f"sqlite:///{tmp_path}/new/brrr.db"
"""
    out = session(HEAD + served + CLASSES, "-k", "COUNT-01 or COUNT-02 or SWAP-01")

    assert "3 passed" in out, out
