"""Common parts of all servers: free ports, starting and ending, and missing programs or libraries."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from random import SystemRandom
from typing import Final, NoReturn

import pytest

PORTS: Final = range(12000, 22000)
"""Ports for servers. A server of a cluster also uses the port 10,000 higher. All are below 32,768, the first port of
outgoing connections, because such a connection could take the port of a server that is down."""


def unmeasured() -> dict[str, str]:
    """Return the environment without coverage.py: a test that counts imports would count those of coverage.py too."""
    return {name: text for name, text in os.environ.items() if not name.startswith("COVERAGE_")}


def missing(what: str) -> NoReturn:
    """Skip the test because a program is missing; on CI, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}: on CI every program must be installed")
    pytest.skip(what, allow_module_level=True)


class MissingExtraError(ImportError):
    """A part of the testkit needs a library that one of its extras installs.

    Args:
        library: The name of the library.
        extra: The extra of brrr-testkit that installs it.
    """

    def __init__(self, library: str, *, extra: str) -> None:
        super().__init__(f"{library} is not installed: pip install 'brrr-testkit[{extra}]'", name=library)


def _ports_of_process() -> Iterator[int]:
    """Yield each port of this process once, in random order. Parallel test processes have different ports."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    own = PORTS[number :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
    return iter(SystemRandom().sample(own, len(own)))


_unused_ports: Final = _ports_of_process()


def free_port() -> int:
    """Return a free port whose cluster port is also free. It is returned once, as its server may not listen yet."""
    for port in _unused_ports:
        with suppress(OSError):
            for each in (port, port + 10000):
                with socket.create_server(("127.0.0.1", each)):
                    pass
            return port
    raise AssertionError(f"no port of {PORTS} is free")


class ServerProcess:
    """A process that a test starts and ends.

    Attributes:
        process: The process while it runs, otherwise None.
    """

    process: "subprocess.Popen[bytes] | None" = None

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill the process, like a crash."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """End the process gracefully; kill it if it does not end."""
        if self.process is not None:
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None
