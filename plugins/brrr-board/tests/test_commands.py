"""`brrr board` as a process, and the program of README.md."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

BRRR = Path(sys.executable).with_name("brrr")
README = (Path(__file__).parents[1] / "README.md").read_text()


@contextmanager
def started(folder: Path, *arguments: str) -> "Generator[subprocess.Popen[str]]":
    environment = {**os.environ, "BRRR_QUEUE": f"sqlite:///{folder}/brrr.db", "PYTHONWARNINGS": "error"}
    command = [BRRR, "board", *arguments]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()  # a failed test must not wait for it


def test_command_serves_until_sigterm_even_with_an_open_stream(tmp_path: Path) -> None:
    with started(tmp_path, "--topic", "orders", "--port", "0") as process:
        assert process.stdout is not None
        found = re.search(r"http://127.0.0.1:\d+/", process.stdout.readline())
        assert found is not None
        page = httpx.get(found[0], timeout=30)
        with httpx.stream("GET", f"{found[0]}events/topics", timeout=30) as stream:
            lines = stream.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            list(lines)  # it ends well: a stream that is cut off raises
            output, errors = process.communicate(timeout=30)

    assert "orders" in page.text
    assert (process.returncode, output, errors) == (143, "", "")


def test_address_of_other_machines_needs_a_host_name(tmp_path: Path) -> None:
    with started(tmp_path, "--host", "0.0.0.0") as process:
        _, errors = process.communicate(timeout=30)

    assert process.returncode == 2
    assert "--allow-host" in errors


def test_board_for_other_machines_warns(tmp_path: Path) -> None:
    with started(tmp_path, "--host", "0.0.0.0", "--allow-host", "ops.example", "--port", "0") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)

    assert "no login" in errors


async def test_program_of_the_readme_mounts_a_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {}
    exec(program, names)
    site: Starlette = names["site"]

    client = httpx.AsyncClient(transport=httpx.ASGITransport(site), base_url="http://localhost")
    async with site.router.lifespan_context(site), client:
        answer = await client.get("/board", follow_redirects=True)

    assert answer.url.path == "/board/"
    assert "orders" in answer.text
