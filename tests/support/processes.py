"""What every server of the tests needs: a port, a wait until it answers, an end, and a word where there is none."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import SystemRandom
from typing import Any, Final, NoReturn

import pytest

PORTS: Final = range(12000, 22000)
"""Ports of servers. A cluster's servers also use the port 10,000 above. Connections get theirs from 32,768 on: one of
those might have taken a server's port while it is down."""


def missing(what: str) -> NoReturn:
    """Skip the test for want of a server; on CI, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}: on CI every server must be there")
    pytest.skip(what, allow_module_level=True)


def _own_ports() -> Iterator[int]:
    """The ports of this process in any order, each once. Processes that share a run's tests have different ones."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    own = PORTS[number :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
    return iter(SystemRandom().sample(own, len(own)))


_left: Final = _own_ports()


def free_port() -> int:
    """A port that is free, and whose cluster port is free too. None is given twice: it may not be listened on yet."""
    for port in _left:
        with suppress(OSError):
            for each in (port, port + 10000):
                with socket.create_server(("127.0.0.1", each)):
                    pass
            return port
    raise AssertionError(f"no port of {PORTS} is left")


def until(
    condition: Callable[[], Any], what: str, *, bound: float, failures: tuple[type[Exception], ...] = (OSError,)
) -> Any:
    """Poll until the condition gives something, for `bound` seconds. Its `failures` count as nothing."""
    deadline = time.monotonic() + bound
    while True:
        try:
            found = condition()
        except failures:
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {bound:g} s: {what}"
        time.sleep(0.02)


class ServerProcess:
    """A process that a test starts and ends.

    Attributes:
        process: It, while it runs.
    """

    process: "subprocess.Popen[bytes] | None" = None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """End it as an operator would; kill it if it does not."""
        if self.process is not None:
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None
