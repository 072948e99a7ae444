"""Run the contract kit on each backend of this project, and renew their entries of docs/reference/plugins.toml.

`make plugins` runs it. It starts the servers of the tests, and needs some minutes. `make plugins ARGS="redis nats"`
runs the kit on some. A backend that does not hold the whole contract keeps its old entry, and the exit status is 1.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Final

from brrr_testkit.servers import nats, redis
from brrr_testkit.servers.aws import dummy_credentials, dynamo_url, sqs_url
from brrr_testkit.servers.emulators import DynamoLocal, Emulator, Moto, shared
from tools import plugins_page

BIN: Final = Path(sys.executable).parent


def main(schemes: list[str]) -> int:
    """Run the kit on the backends of the schemes, or on all, write the page, and return the exit status."""
    failed = 0
    with tempfile.TemporaryDirectory() as name, dummy_credentials():
        for scheme in schemes or BACKENDS:
            with BACKENDS[scheme](Path(name)) as url:
                failed |= plugins_page.main([str(run(url, Path(name) / f"{scheme}.json"))])
    return failed


@contextmanager
def started(server: redis.Server | nats.Server) -> Iterator[str]:
    """Start a server, and stop it afterwards."""
    try:
        yield server.start().url
    finally:
        server.kill()


@contextmanager
def emulated(kind: type[Emulator], folder: Path, url: Callable[[str, str], str]) -> Iterator[str]:
    """Start an emulator of AWS, and stop it afterwards."""
    with shared(kind, folder) as endpoint:
        yield url("kit", endpoint)


BACKENDS: Final[dict[str, Callable[[Path], AbstractContextManager[str]]]] = {
    "memory": lambda folder: nullcontext("memory:"),
    "sqlite": lambda folder: nullcontext(f"sqlite:///{folder}/brrr.db"),  # four slashes: an absolute path
    "redis": lambda folder: started(redis.Server(redis.valkey_program(), folder / "valkey")),
    "nats": lambda folder: started(nats.Server(folder / "nats")),
    "dynamo": lambda folder: emulated(DynamoLocal, folder, dynamo_url),
    "sqs": lambda folder: emulated(Moto, folder, sqs_url),
}
"""The backends by scheme. Each starts its server, gives its URL, and stops the server."""


def run(url: str, report: Path) -> Path:
    """Run the kit on a backend that is set up, and return its report."""
    print(f"brrr contract {url}", flush=True)
    command: list[str | Path] = [BIN / "brrr", "contract", url, "--setup", "--json", report]
    ended = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    print(ended.stdout if ended.returncode else ended.stdout.splitlines()[-1], flush=True)
    return report


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
