"""Emulators of AWS: moto and DynamoDB Local. One test process starts each, and all processes of a run share it."""

import fcntl
import http.client
import importlib.util
import json
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from brrr_testkit.processes import ServerProcess, free_port, missing
from brrr_testkit.servers import dynamodb_local
from brrr_testkit.waiting import wait_until

__all__ = ["DynamoLocal", "Emulator", "Moto", "alive", "responds", "shared"]

START_TIMEOUT: Final = 120.0
"""Seconds to wait until a server responds. It takes one or two seconds, and much longer on a busy machine."""


class Emulator(ServerProcess, ABC):
    """Server process on a port of this machine, with a folder for its log."""

    name: str

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command that starts the server."""

    @property
    def endpoint(self) -> str:
        """URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """Path of the server's log."""
        return self.folder / "log"

    def start(self) -> Self:
        """Start the server as a child of this process, and wait until it responds."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), cwd=self.folder, stdout=log, stderr=log)
        try:
            self.ready()
        except BaseException:
            self.kill()
            raise
        return self

    def start_shared(self) -> int:
        """Start the server detached, so that it may outlive this process, and return its process id."""
        script = '"$@" >>log 2>&1 </dev/null & echo $!'
        done = subprocess.run(
            ["sh", "-c", script, "sh", *self.command()], cwd=self.folder, check=True, stdout=subprocess.PIPE
        )
        pid = int(done.stdout)
        try:
            self.ready(pid)
        except BaseException:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            raise
        return pid

    def ready(self, pid: int | None = None) -> None:
        """Wait until the server responds.

        Raises:
            AssertionError: The server ended or does not respond. The error contains its log.
        """

        def answers() -> bool:
            ended = not alive(pid) if pid else self.process is not None and self.process.poll() is not None
            assert not ended, f"{self.name} ended unexpectedly"
            return responds(self.port)

        try:
            wait_until(answers, f"{self.name} answers on port {self.port}", bound=START_TIMEOUT)
        except AssertionError as error:
            error.add_note(self.log.read_text(errors="replace")[-2000:])
            raise


class Moto(Emulator):
    """moto's server: SQS, DynamoDB and more, in memory."""

    name = "moto"

    def command(self) -> list[str]:
        """Return the command that starts moto with our patches."""
        if importlib.util.find_spec("moto") is None:
            missing("moto is not installed: pip install 'brrr-testkit[aws]'")
        program = Path(__file__).with_name("moto_server.py")
        return [sys.executable, str(program), "-H", "127.0.0.1", "-p", str(self.port)]


class DynamoLocal(Emulator):
    """DynamoDB Local, with its data in memory or in the folder `data`."""

    name = "DynamoDB Local"

    def __init__(self, folder: Path, port: int | None = None, *, data: Path | None = None) -> None:
        super().__init__(folder, port)
        self.data = data

    def command(self) -> list[str]:
        """Return the command that starts DynamoDB Local."""
        return dynamodb_local.command(self.port, self.data)


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def responds(port: int) -> bool:
    """Whether an HTTP server responds on a port of this machine, with any status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


@contextmanager
def shared(kind: type[Emulator], run: Path) -> Generator[str, None, None]:
    """Share one server between all processes with the same folder `run`. The last one to leave ends it."""
    folder = run / kind.__name__.lower()
    folder.mkdir(parents=True, exist_ok=True)
    with _state(folder) as state:
        if not state or not responds(state["port"]):
            server = kind(folder)
            state.update(port=server.port, pid=server.start_shared(), users=0)
        state["users"] += 1
        port = state["port"]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        with _state(folder) as state:
            state["users"] -= 1
            if not state["users"]:
                with suppress(ProcessLookupError):
                    os.kill(state["pid"], signal.SIGKILL)  # it has no data to save
                state.clear()


@contextmanager
def _state(folder: Path) -> Generator[dict[str, int], None, None]:
    """Lock and yield the state of a shared server. Changes are saved for the next process."""
    with (folder / "state").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        state = json.loads(file.read() or "{}")
        yield state
        file.truncate(0)
        file.write(json.dumps(state))
